package tlspolicy

import "poczta.example/poczta/internal/db"

// Schema is the tables of this package.
//
// tls_sts is the MTA-STS policy of a domain: as fetched, with the id of the record
// that led to it, and the last failure to fetch another. A row without text is a
// domain whose policy could never be fetched. tls_memory is the level of TLS that a host has shown;
// lowered is since when it shows less, 0 when it does not. tls_count is the sessions of a
// day for reports, under the policy whose text stands in tls_applied.
var Schema = db.Component{Name: "tlspolicy", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE tls_sts (
	domain {text} NOT NULL PRIMARY KEY, id {text} NOT NULL, policy {text} NOT NULL,
	fetched {int} NOT NULL, expires {int} NOT NULL, checked {int} NOT NULL, used {int} NOT NULL,
	failed_id {text} NOT NULL, failed {int} NOT NULL, failure {text} NOT NULL) {rowid};
CREATE INDEX tls_sts_checked ON tls_sts (checked);
CREATE TABLE tls_memory (
	domain {text} NOT NULL, host {text} NOT NULL, level {int} NOT NULL, seen {int} NOT NULL, lowered {int} NOT NULL,
	PRIMARY KEY (domain, host)) {rowid};
CREATE INDEX tls_memory_seen ON tls_memory (seen);
CREATE TABLE tls_applied (
	day {int} NOT NULL, hash {text} NOT NULL, text {text} NOT NULL, PRIMARY KEY (day, hash)) {rowid};
CREATE TABLE tls_count (
	day {int} NOT NULL, domain {text} NOT NULL, policy_type {text} NOT NULL, policy {text} NOT NULL, result {text} NOT NULL,
	host {text} NOT NULL, addr {text} NOT NULL, local {text} NOT NULL, detail {text} NOT NULL, sessions {int} NOT NULL,
	PRIMARY KEY (day, domain, policy_type, policy, result, host, addr, local, detail)) {rowid};
CREATE TABLE tls_reported (
	day {int} NOT NULL, domain {text} NOT NULL, at {int} NOT NULL, PRIMARY KEY (day, domain)) {rowid}`}}}
