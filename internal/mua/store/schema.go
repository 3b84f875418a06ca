package store

import "poczta.example/poczta/internal/db"

// Schema is the tables of this package, for SQLite alone: full text is FTS5's.
//
// letter has a row for each row of mailbox's tables entry and retained, found by (account,
// number, uid). rank is the date in seconds, or the next second that no letter has: letters in
// order of date, and the rowid in letter_text, so that a search reads its newest hits first without sorting.
// whole is 0, or for a partial letter the octets of the whole one. base is a hash of the subject
// without prefixes, orphan says that it is a reply without references. indexed is 0 until the
// text is in letter_text; turn counts how often it had to be read anew. counted says that its people are in person.
// origin is the folder that a letter in Trash came from. thread_key holds hashes of Message-IDs.
// landed holds letters that are durable and wait to be filed, some in a row: see Land and packLanded.
var Schema = db.Component{Name: "mua-store", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE letter (
	id {id}, account {int} NOT NULL, number {int} NOT NULL, uid {int} NOT NULL,
	rank {int} NOT NULL, date {int} NOT NULL, received {int} NOT NULL,
	flags {int} NOT NULL, octets {int} NOT NULL, whole {int} NOT NULL, thread {int} NOT NULL,
	attachments {int} NOT NULL, indexed {int} NOT NULL, turn {int} NOT NULL, counted {int} NOT NULL,
	removed {int} NOT NULL, trashed {int} NOT NULL, base {int} NOT NULL, orphan {int} NOT NULL,
	subject {text} NOT NULL, sender {text} NOT NULL, recipients {text} NOT NULL,
	message_id {text} NOT NULL, unique_id {text} NOT NULL, origin {text} NOT NULL, snippet {text} NOT NULL) {strict};
CREATE UNIQUE INDEX letter_place ON letter (account, number, uid);
CREATE INDEX letter_rank ON letter (rank, account, number, flags, attachments, thread, octets, whole, removed);
CREATE INDEX letter_folder ON letter (account, number, rank) WHERE removed = 0;
CREATE INDEX letter_unread ON letter (account, number, rank) WHERE removed = 0 AND flags & 1 = 0;
CREATE INDEX letter_flagged ON letter (account, number, rank) WHERE removed = 0 AND flags & 4 <> 0;
CREATE INDEX letter_attached ON letter (account, number, rank) WHERE removed = 0 AND attachments > 0;
CREATE INDEX letter_thread ON letter (thread, rank);
CREATE INDEX letter_base ON letter (base, date, orphan) WHERE base <> 0;
CREATE INDEX letter_message_id ON letter (message_id) WHERE message_id <> '';
CREATE INDEX letter_todo ON letter (id) WHERE indexed = 0 AND removed = 0;
CREATE INDEX letter_removed ON letter (removed) WHERE removed <> 0;
CREATE INDEX letter_trashed ON letter (trashed) WHERE trashed <> 0 AND removed = 0;
CREATE TABLE thread_key (key {int} NOT NULL PRIMARY KEY, thread {int} NOT NULL) {strict};
CREATE INDEX thread_key_thread ON thread_key (thread);
CREATE VIRTUAL TABLE letter_text USING fts5 (subject, sender, recipients, body, files, inside,
	content = '', contentless_delete = 1, tokenize = 'ascii', prefix = '3');
INSERT INTO letter_text (letter_text, rank) VALUES ('automerge', 8);
INSERT INTO letter_text (letter_text, rank) VALUES ('hashsize', 16777216);
CREATE TABLE folder_state (account {int} NOT NULL, number {int} NOT NULL, seen {int} NOT NULL, hidden {int} NOT NULL,
	PRIMARY KEY (account, number)) {rowid};
CREATE TABLE person (
	address {text} NOT NULL PRIMARY KEY, name {text} NOT NULL, sent {int} NOT NULL, received {int} NOT NULL, last {int} NOT NULL) {rowid};
CREATE TABLE person_word (word {text} NOT NULL, address {text} NOT NULL, PRIMARY KEY (word, address)) {rowid};
CREATE TABLE rule (id {id}, place {int} NOT NULL, name {text} NOT NULL, rule {text} NOT NULL) {strict};
CREATE TABLE store_setting (name {text} NOT NULL PRIMARY KEY, value {text} NOT NULL) {strict}`},
	{Number: 2, SQL: `DROP INDEX letter_message_id;
DROP INDEX letter_base;
CREATE INDEX letter_base ON letter (base, date) WHERE base <> 0;
CREATE INDEX letter_orphan ON letter (base, date) WHERE orphan = 1`},
	{Number: 3, SQL: `CREATE TABLE landed (id {id}, account {int} NOT NULL, letters {blob} NOT NULL) {strict};
CREATE INDEX letter_large ON letter (account, number, rank, octets, whole) WHERE removed = 0 AND MAX(octets, whole) >= 16384`}}}
