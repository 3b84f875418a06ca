package dmarcreport

import "poczta.example/poczta/internal/db"

// Schema is the tables of this package.
//
// dmarc_count is the messages of a day in the name of a policy domain that are alike in all that
// a report tells; what that is stands in detail, in JSON, of which hash is the digest.
// dmarc_reported are the days that a domain has its report for, or asked for none.
// dmarc_received are reports about our domains, dmarc_received_row their records;
// a report counts once its row in dmarc_received is there, which comes last.
// dmarc_failure are failure reports.
var Schema = db.Component{Name: "dmarcreport", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE dmarc_count (
	day {int} NOT NULL, domain {text} NOT NULL, hash {text} NOT NULL, detail {text} NOT NULL, messages {int} NOT NULL,
	PRIMARY KEY (day, domain, hash)) {rowid};
CREATE TABLE dmarc_reported (
	day {int} NOT NULL, domain {text} NOT NULL, at {int} NOT NULL, PRIMARY KEY (day, domain)) {rowid};
CREATE TABLE dmarc_received (
	id {text} NOT NULL PRIMARY KEY, day {int} NOT NULL, domain {text} NOT NULL, organization {text} NOT NULL, reporter {text} NOT NULL, email {text} NOT NULL,
	report_id {text} NOT NULL, begins {int} NOT NULL, ends {int} NOT NULL, received {int} NOT NULL, policy {text} NOT NULL,
	messages {int} NOT NULL, passed {int} NOT NULL, omitted {int} NOT NULL, damaged {text} NOT NULL) {rowid};
CREATE INDEX dmarc_received_day ON dmarc_received (day, domain);
CREATE INDEX dmarc_received_domain ON dmarc_received (domain, ends, id);
CREATE TABLE dmarc_received_row (
	id {text} NOT NULL, n {int} NOT NULL, day {int} NOT NULL, domain {text} NOT NULL, source {text} NOT NULL, messages {int} NOT NULL, passed {int} NOT NULL,
	detail {text} NOT NULL, PRIMARY KEY (id, n)) {rowid};
CREATE INDEX dmarc_received_row_day ON dmarc_received_row (day);
CREATE INDEX dmarc_received_row_domain ON dmarc_received_row (domain, day);
CREATE TABLE dmarc_failure (
	id {text} NOT NULL PRIMARY KEY, day {int} NOT NULL, domain {text} NOT NULL, source {text} NOT NULL, type {text} NOT NULL, failure {text} NOT NULL,
	arrived {int} NOT NULL, received {int} NOT NULL, reporter {text} NOT NULL, incidents {int} NOT NULL) {rowid};
CREATE INDEX dmarc_failure_day ON dmarc_failure (day, domain);
CREATE INDEX dmarc_failure_domain ON dmarc_failure (domain, received, id)`}}}
