package account

import "poczta.example/poczta/internal/db"

// Bits of account_name.kind. Logins, addresses and aliases share one table, so
// that its primary key keeps them apart: nobody's login is another's address.
const (
	kindLogin   = int64(1)
	kindAddress = int64(2)
	kindAlias   = int64(4)
)

// Component is this package's tables, for db.Migrate.
//
// account_name.name is the key under which login names and addresses are
// compared: address.Address.Key, "@domain" for a catch-all, or a folded login
// name. An alias has account 0 and its targets in account_target. The salt and
// iterations of an account hold for its password and, for SCRAM, for its app
// passwords; keys are empty without a password or while an imported hash waits.
// account.forwards is a forwarding, account.vacation whether account_vacation has a
// row; they stand in the account so that routing need not look. suspended is the time
// since which a target gets nothing, 0 while it does. account_app.quick is the StoredKey under 4,096 iterations and a salt made of
// the store's secret, for PLAIN; of an account that was restored, its own salt stands behind it.
func Component() db.Component {
	return db.Component{Name: "account", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE account_domain (
	name {text} NOT NULL PRIMARY KEY,
	postmaster {int} NOT NULL,
	created {int} NOT NULL
) {rowid};
CREATE TABLE account (
	id {id},
	login {text} NOT NULL,
	address {text} NOT NULL,
	domain {text} NOT NULL,
	name {text} NOT NULL,
	language {text} NOT NULL,
	quota {int} NOT NULL,
	state {int} NOT NULL,
	version {int} NOT NULL,
	salt {blob} NOT NULL,
	iterations {int} NOT NULL,
	stored_key {blob} NOT NULL,
	server_key {blob} NOT NULL,
	foreign_hash {text} NOT NULL,
	created {int} NOT NULL,
	removed {int} NOT NULL
) {strict};
CREATE INDEX account_by_domain ON account (domain, state, id);
CREATE INDEX account_foreign ON account (id) WHERE foreign_hash <> '';
CREATE TABLE account_name (
	name {text} NOT NULL PRIMARY KEY,
	kind {int} NOT NULL,
	account {int} NOT NULL,
	domain {text} REFERENCES account_domain (name),
	written {text} NOT NULL,
	created {int} NOT NULL
) {rowid};
CREATE INDEX account_name_by_account ON account_name (account, name);
CREATE INDEX account_name_by_domain ON account_name (domain, kind, name);
CREATE TABLE account_target (
	source {text} NOT NULL REFERENCES account_name (name),
	name {text} NOT NULL,
	written {text} NOT NULL,
	PRIMARY KEY (source, name)
) {rowid};
CREATE TABLE account_app (
	id {id},
	account {int} NOT NULL REFERENCES account (id),
	label {text} NOT NULL,
	quick {blob} NOT NULL,
	salt {blob} NOT NULL,
	iterations {int} NOT NULL,
	stored_key {blob} NOT NULL,
	server_key {blob} NOT NULL,
	created {int} NOT NULL
) {strict};
CREATE INDEX account_app_by_account ON account_app (account, id);
CREATE TABLE account_send_as (
	account {int} NOT NULL REFERENCES account (id),
	name {text} NOT NULL,
	written {text} NOT NULL,
	PRIMARY KEY (account, name)
) {rowid};
CREATE TABLE account_cert (
	fingerprint {blob} NOT NULL PRIMARY KEY,
	account {int} NOT NULL REFERENCES account (id)
) {rowid};
CREATE INDEX account_cert_by_account ON account_cert (account);
CREATE TABLE account_secret (
	name {text} NOT NULL PRIMARY KEY,
	octets {blob} NOT NULL
) {rowid}`}, {Number: 2, SQL: `
ALTER TABLE account ADD COLUMN forwards {int} NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN vacation {int} NOT NULL DEFAULT 0;
ALTER TABLE account_target ADD COLUMN suspended {int} NOT NULL DEFAULT 0;
ALTER TABLE account_target ADD COLUMN reason {text} NOT NULL DEFAULT '';
CREATE TABLE account_forward (
	account {int} NOT NULL REFERENCES account (id),
	name {text} NOT NULL,
	written {text} NOT NULL,
	suspended {int} NOT NULL,
	reason {text} NOT NULL,
	PRIMARY KEY (account, name)
) {rowid};
CREATE TABLE account_vacation (
	account {int} NOT NULL PRIMARY KEY REFERENCES account (id),
	starts {int} NOT NULL,
	ends {int} NOT NULL,
	subject {text} NOT NULL,
	body {text} NOT NULL,
	days {int} NOT NULL,
	changed {int} NOT NULL
) {rowid}`}}}
}
