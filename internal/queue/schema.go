package queue

import "poczta.example/poczta/internal/db"

// Schema is the tables of this package.
//
// A message's row holds one reference to its body until the last recipient is
// settled. queued_recipient is clustered by message; its index serves the taking
// of what is due in a shard of a destination, in the order of priority and time.
//
// queued_shard is the work: a row for each shard of a destination that has
// recipients, with the moment from which somebody should look (due) and the
// incarnation that has it on lease (0 is nobody's; then due is never). Accept does
// not write it: see wake.go. destination is the host's clock and the operator's word;
// it has a row for hosts in trouble only. node is one row for each living incarnation,
// renewed as a whole.
var Schema = db.Component{Name: "queue", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE queued_message (
	id {blob} NOT NULL PRIMARY KEY, queued {int} NOT NULL,
	reverse_path {text} NOT NULL, reverse_key {text} NOT NULL,
	body_type {int} NOT NULL, smtputf8 {int} NOT NULL, ret {int} NOT NULL, envid {text} NOT NULL,
	octets {int} NOT NULL, account {int} NOT NULL, login {text} NOT NULL, priority {int} NOT NULL, recipients {int} NOT NULL) {rowid};
CREATE TABLE queued_recipient (
	id {blob} NOT NULL, n {int} NOT NULL, fate {int} NOT NULL,
	forward_path {text} NOT NULL, forward_key {text} NOT NULL, destination {text} NOT NULL,
	notify {int} NOT NULL, orcpt_type {text} NOT NULL, orcpt {text} NOT NULL,
	state {int} NOT NULL, attempts {int} NOT NULL, next_attempt {int} NOT NULL, priority {int} NOT NULL, last_status {text} NOT NULL,
	PRIMARY KEY (id, n)) {rowid};
CREATE INDEX queued_recipient_due ON queued_recipient (destination, state, priority, next_attempt);
CREATE TABLE destination (
	name {text} NOT NULL PRIMARY KEY, next_due {int} NOT NULL, concurrency {int} NOT NULL, rate {int} NOT NULL,
	suspended {int} NOT NULL, tls {text} NOT NULL, node {int} NOT NULL, incarnation {int} NOT NULL) {rowid};
CREATE TABLE node (
	node {int} NOT NULL PRIMARY KEY, incarnation {int} NOT NULL, until {int} NOT NULL, name {text} NOT NULL) {rowid}`},
	{Number: 2, SQL: `
ALTER TABLE queued_message ADD COLUMN utf8 {int} NOT NULL DEFAULT 0;
ALTER TABLE queued_message ADD COLUMN ours {int} NOT NULL DEFAULT 0;
ALTER TABLE queued_message ADD COLUMN requiretls {int} NOT NULL DEFAULT 0;
ALTER TABLE queued_message ADD COLUMN tls_optional {int} NOT NULL DEFAULT 0;
ALTER TABLE queued_message ADD COLUMN hold_until {int} NOT NULL DEFAULT 0;
ALTER TABLE queued_message ADD COLUMN by_mode {int} NOT NULL DEFAULT 0;
ALTER TABLE queued_message ADD COLUMN by_time {int} NOT NULL DEFAULT 0;
ALTER TABLE queued_message ADD COLUMN by_trace {int} NOT NULL DEFAULT 0;
ALTER TABLE queued_message ADD COLUMN expires {int} NOT NULL DEFAULT 0;
ALTER TABLE queued_recipient ADD COLUMN forward {text} NOT NULL DEFAULT '';
ALTER TABLE queued_recipient ADD COLUMN reverse_path {text} NOT NULL DEFAULT '';
ALTER TABLE queued_recipient ADD COLUMN written {text} NOT NULL DEFAULT '';
ALTER TABLE queued_recipient ADD COLUMN warned {int} NOT NULL DEFAULT 0`},
	{Number: 3, SQL: `
ALTER TABLE queued_recipient ADD COLUMN shard {int} NOT NULL DEFAULT 0;
ALTER TABLE queued_recipient ADD COLUMN reason {text} NOT NULL DEFAULT '';
CREATE INDEX queued_recipient_take ON queued_recipient (destination, shard, state, priority, next_attempt, id, n);
DROP INDEX queued_recipient_due;
ALTER TABLE destination ADD COLUMN failures {int} NOT NULL DEFAULT 0;
ALTER TABLE destination ADD COLUMN status {text} NOT NULL DEFAULT '';
ALTER TABLE destination ADD COLUMN reason {text} NOT NULL DEFAULT '';
ALTER TABLE destination ADD COLUMN changed {int} NOT NULL DEFAULT 0;
CREATE TABLE queued_shard (
	destination {text} NOT NULL, shard {int} NOT NULL, due {int} NOT NULL, incarnation {int} NOT NULL,
	PRIMARY KEY (destination, shard)) {rowid};
CREATE INDEX queued_shard_due ON queued_shard (due);
CREATE INDEX queued_shard_incarnation ON queued_shard (incarnation)`},
	// What was queued before step 2 has no time at which to give up: five days, in microseconds.
	{Number: 4, SQL: `UPDATE queued_message SET expires = queued + 432000000000 WHERE expires = 0`}}}
