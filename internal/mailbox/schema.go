package mailbox

import "poczta.example/poczta/internal/db"

// Schema is the tables of this package.
//
// entry and retained are clustered by (account, number, uid), so that one
// account's mail lies together. unique_id holds ” when it is the body's id, 16
// octets for another id of ours, or 0xFF and the text of an imported one.
// import_key holds what was imported into a mailbox, for ever: 'u' and the
// unique-id, or 'h', the SHA-256 and the source. restored_id holds the unique-ids
// that restores gave, which no body has. mailbox.changed is the modseq of the last change of
// entries that stayed: of flags, of a body.
var Schema = db.Component{Name: "mailbox", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE mailbox (
	account {int} NOT NULL, name {text} NOT NULL, number {int} NOT NULL,
	uidvalidity {int} NOT NULL, uidnext {int} NOT NULL,
	modseq {int} NOT NULL, shrunk {int} NOT NULL,
	messages {int} NOT NULL, octets {int} NOT NULL, retained {int} NOT NULL,
	PRIMARY KEY (account, name)) {rowid};
CREATE UNIQUE INDEX mailbox_number ON mailbox (account, number);
CREATE TABLE entry (
	account {int} NOT NULL, number {int} NOT NULL, uid {int} NOT NULL,
	modseq {int} NOT NULL, flags {int} NOT NULL, octets {int} NOT NULL, surrogate {int} NOT NULL,
	received {int} NOT NULL, unique_id {blob} NOT NULL, body {blob} NOT NULL, prefix {blob} NOT NULL,
	PRIMARY KEY (account, number, uid)) {rowid};
CREATE TABLE retained (
	account {int} NOT NULL, number {int} NOT NULL, uid {int} NOT NULL,
	modseq {int} NOT NULL, flags {int} NOT NULL, octets {int} NOT NULL, surrogate {int} NOT NULL,
	received {int} NOT NULL, unique_id {blob} NOT NULL, body {blob} NOT NULL, prefix {blob} NOT NULL,
	removed {int} NOT NULL,
	PRIMARY KEY (account, number, uid)) {rowid};
CREATE INDEX retained_removed ON retained (removed);
CREATE TABLE import_key (
	account {int} NOT NULL, number {int} NOT NULL, key {blob} NOT NULL, sha256 {blob} NOT NULL,
	PRIMARY KEY (account, number, key)) {rowid};
CREATE TABLE restored_id (id {blob} NOT NULL PRIMARY KEY) {rowid};
CREATE TABLE maildrop_lock (
	account {int} NOT NULL PRIMARY KEY, token {blob} NOT NULL, expires {int} NOT NULL) {rowid}`},
	{Number: 2, SQL: `ALTER TABLE mailbox ADD COLUMN changed {int} NOT NULL DEFAULT 0`}}}
