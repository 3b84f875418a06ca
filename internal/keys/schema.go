package keys

import "poczta.example/poczta/internal/db"

// Schema is this package's tables, for db.Migrate. A row of dkim_domain stands for
// a domain that has or had keys; its version rises with every change of them, is
// compared before each change, and never returns to a value. private is PKCS #8,
// empty from Retired on.
var Schema = db.Component{Name: "keys", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE dkim_domain (
	domain {text} NOT NULL PRIMARY KEY,
	version {int} NOT NULL
) {rowid};
CREATE TABLE dkim_key (
	domain {text} NOT NULL,
	selector {text} NOT NULL,
	algorithm {text} NOT NULL,
	stage {int} NOT NULL,
	record {text} NOT NULL,
	private {blob} NOT NULL,
	created {int} NOT NULL,
	published {int} NOT NULL,
	activated {int} NOT NULL,
	retired {int} NOT NULL,
	removed {int} NOT NULL,
	PRIMARY KEY (domain, selector)
) {rowid};
CREATE INDEX dkim_key_by_stage ON dkim_key (stage, domain)`}}}
