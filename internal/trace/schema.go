package trace

import "poczta.example/poczta/internal/db"

// Schema is the tables of this package.
//
// trace holds a row for each fate, clustered by id and so nearly in order of
// arrival: inserting is appending. The row of fate 0 holds the message's facts
// as well, so that a message for one recipient is one row. It has no other index:
// Run copies the keys (64-bit hashes of addresses and Message-IDs) of rows some
// minutes old into trace_key in sorted chunks; Find reads that and the tail that is
// not copied yet. trace_state says how far Run has come.
var Schema = db.Component{Name: "trace", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE trace (
	id {blob} NOT NULL, n {int} NOT NULL,
	recipient {text} NOT NULL, target {text} NOT NULL, account {int} NOT NULL,
	state {int} NOT NULL, changed {int} NOT NULL, detail {text} NOT NULL,
	rkey {int} NOT NULL, tkey {int} NOT NULL, skey {int} NOT NULL DEFAULT 0, mkey {int} NOT NULL DEFAULT 0,
	accepted {int} NOT NULL DEFAULT 0, reverse_path {text} NOT NULL DEFAULT '', message_id {text} NOT NULL DEFAULT '',
	peer {text} NOT NULL DEFAULT '', conn_id {text} NOT NULL DEFAULT '', sender {int} NOT NULL DEFAULT 0,
	login {text} NOT NULL DEFAULT '', octets {int} NOT NULL DEFAULT 0, sha256 {blob},
	PRIMARY KEY (id, n)) {rowid};
CREATE TABLE trace_key (
	day {int} NOT NULL, hash {int} NOT NULL, id {blob} NOT NULL,
	PRIMARY KEY (day, hash, id)) {rowid};
CREATE TABLE trace_event (
	id {blob} NOT NULL, happened {int} NOT NULL, n {int} NOT NULL, kind {text} NOT NULL, detail {text} NOT NULL,
	PRIMARY KEY (id, happened, n, kind)) {rowid};
CREATE TABLE trace_state (
	name {text} NOT NULL PRIMARY KEY, id {blob} NOT NULL, n {int} NOT NULL) {rowid}`},
	{Number: 2, SQL: `
CREATE TABLE trace_dialogue (
	id {blob} NOT NULL, n {int} NOT NULL, happened {int} NOT NULL, packed {blob} NOT NULL,
	PRIMARY KEY (id, n)) {rowid}`}}}
