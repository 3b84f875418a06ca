package lab_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// reports: what comes back is a report that programs read: mpop fetches it by POP3,
// Python's mail parser takes it apart.
func (w *world) reports(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, to, mail, rcpt string
		action, status       string
		words                []string // anywhere in the report
		after                func(t *testing.T)
	}{
		{"unknown at Postfix", "nobody@postfix.test", "", "", "failed", "5.1.1", []string{"User unknown in virtual mailbox table"}, nil},
		{"unknown at Exim", "nobody@exim.test", " RET=FULL ENVID=lab-1", "", "failed", "5.1.1", []string{"exim.test knows no nobody", "Original-Envelope-Id: lab-1", "A letter of the laboratory."}, nil},
		{"success from Postfix", "kasia@postfix.test", " ENVID=lab-2", " NOTIFY=SUCCESS ORCPT=rfc822;kasia@postfix.test", "delivered", "2.0.0", []string{"Original-Envelope-Id: lab-2", "mx.postfix.test"}, nil},
		{"success from Exim", "emil@exim.test", " ENVID=lab-3", " NOTIFY=SUCCESS", "delivered", "2", []string{"lab-3", "mx.exim.test"}, nil},
		{"null MX", "nobody@null.plain", "", "", "failed", "5.1.10", nil, nil},
		{"delayed, then returned by the operator", "nobody@silent.plain", "", "", "delayed", "4.", nil, func(t *testing.T) {
			w.ours.on(t).poczta("", "queue", "bounce", "--to", "nobody@silent.plain", "--reason", "this host is gone", "--yes")
			wants(t, "report", w.arrives(t, w.ours.on(t), "ewa@ours.test", soon, "nobody@silent.plain", "Action: failed"), "this host is gone")
		}},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			token := "report-" + strings.NewReplacer(" ", "-", ",", "").Replace(c.name)
			w.submit(t, w.ours, "ewa@ours.test", letter{from: "ewa@ours.test", to: c.to, token: token, mail: c.mail, rcpt: c.rcpt})
			w.arrives(t, w.ours.on(t), "ewa@ours.test", 100*time.Second, token, "Action: "+c.action)
			r := w.mailProgram(t, "ewa@ours.test", token, c.action)
			if r.Type != "multipart/report" || r.ReportType != "delivery-status" || len(r.Parts) < 2 || r.Parts[0] != "text/plain" || r.Parts[1] != "message/delivery-status" {
				t.Errorf("the report is %s of %s with parts %v", r.Type, r.ReportType, r.Parts)
			}
			if !strings.HasPrefix(r.Status, c.status) || !strings.EqualFold(r.Action, c.action) || !strings.Contains(r.Recipient, c.to) {
				t.Errorf("it says %s %s of %s, want %s %s of %s", r.Action, r.Status, r.Recipient, c.action, c.status, c.to)
			}
			if r.From == "" || r.ReturnPath != "<>" || r.AutoSubmitted == "" || r.AutoSubmitted == "no" {
				t.Errorf("from %q, return path %q, Auto-Submitted %q", r.From, r.ReturnPath, r.AutoSubmitted)
			}
			wants(t, "report", r.Text, c.words...)
			if c.after != nil {
				c.after(t)
			}
		})
	}
}

// parsed is a report as Python reads it.
type parsed struct {
	Type, ReportType, From, ReturnPath, AutoSubmitted string
	Action, Status, Recipient                         string
	Parts                                             []string
	Text                                              string
}

const reader = `
import email, email.policy, json, sys, pathlib
for name in pathlib.Path(sys.argv[1]).glob('*'):
    octets = name.read_bytes()
    m = email.message_from_bytes(octets, policy=email.policy.default)
    if sys.argv[2] not in octets.decode('utf-8', 'replace') or not m.is_multipart():
        continue
    out = dict(Type=m.get_content_type(), ReportType=m.get_param('report-type') or '', From=str(m['From'] or ''), ReturnPath=str(m['Return-Path'] or ''),
        AutoSubmitted=str(m['Auto-Submitted'] or ''), Parts=[p.get_content_type() for p in m.iter_parts()], Text=octets.decode('utf-8', 'replace'), Action='', Status='', Recipient='')
    for p in m.walk():
        if p.get_content_type() == 'message/delivery-status':
            for block in p.get_payload():
                if block['Action']:
                    out.update(Action=str(block['Action']).split()[0], Status=str(block['Status']), Recipient=str(block['Final-Recipient']))
    if out['Action'].lower() == sys.argv[3]:
        print(json.dumps(out))
        break
`

// mailProgram fetches a mailbox by mpop and reads the report about a letter.
func (w *world) mailProgram(t *testing.T, login, token, action string) parsed {
	t.Helper()
	dir := t.TempDir()
	box := filepath.Join(dir, "box")
	for _, d := range []string{"new", "cur", "tmp"} {
		if err := os.MkdirAll(filepath.Join(box, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	conf := keep(t, dir, "mpoprc", "account default\nhost mx.ours.test\nport 995\ntls on\ntls_starttls off\ntls_trust_file "+filepath.Join(w.ours.dir, "ca.pem")+
		"\nuser "+login+"\nauth user\npasswordeval \"echo '"+password+"'\"\nkeep on\ndelivery maildir "+box+"\nuidls_file "+filepath.Join(dir, "uidls")+"\n")
	if err := os.Chmod(conf, 0o600); err != nil {
		t.Fatal(err)
	}
	client := w.client.on(t)
	client.run("mpop", "-C", conf)
	out := client.run("python3", "-c", reader, filepath.Join(box, "new"), token, action)
	var p parsed
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatalf("no report of %s about %s: %v: %s", action, token, err, out)
	}
	return p
}
