package authres_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/authres"
)

func prop(ptype, name, value string) authres.Property {
	return authres.Property{Type: ptype, Name: name, Value: value}
}

func TestParse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		want     authres.Field
	}{
		{"none (RFC 8601 B.2)", "example.org 1; none", authres.Field{ID: "example.org"}},
		{"none after a version", "example.com 1 ; none;", authres.Field{ID: "example.com"}},
		{"SPF (RFC 8601 B.3)", "example.com;\r\n spf=pass smtp.mailfrom=example.net", authres.Field{ID: "example.com", Results: []authres.Result{
			{Method: "spf", Value: "pass", Properties: []authres.Property{prop("smtp", "mailfrom", "example.net")}}}}},
		{"several (RFC 8601 B.4)", "example.com;\r\n auth=pass (cram-md5) smtp.auth=sender@example.net;\r\n spf=pass smtp.mailfrom=example.net",
			authres.Field{ID: "example.com", Results: []authres.Result{
				{Method: "auth", Value: "pass", Properties: []authres.Property{prop("smtp", "auth", "sender@example.net")}},
				{Method: "spf", Value: "pass", Properties: []authres.Property{prop("smtp", "mailfrom", "example.net")}}}}},
		{"comments everywhere (RFC 8601 B.7)", "foo.example.net (foobar) 1 (baz);\r\n    dkim (Because I like it) / 1 (One yay) = (wait for it) fail\r\n" +
			"      policy (A dot can go here) . (like that) expired\r\n    (this surprised me) = (as I wasn't expecting it) 1362471462",
			authres.Field{ID: "foo.example.net", Results: []authres.Result{
				{Method: "dkim", Value: "fail", Properties: []authres.Property{prop("policy", "expired", "1362471462")}}}}},
		{"reason", `x.example; dkim=fail reason="bad \"b\"" header.d=y.example`, authres.Field{ID: "x.example", Results: []authres.Result{
			{Method: "dkim", Value: "fail", Reason: `bad "b"`, Properties: []authres.Property{prop("header", "d", "y.example")}}}}},
		{"quoted local-part", `x.example; spf=pass smtp.mailfrom="a b"@y.example`, authres.Field{ID: "x.example", Results: []authres.Result{
			{Method: "spf", Value: "pass", Properties: []authres.Property{prop("smtp", "mailfrom", "a b@y.example")}}}}},
		{"property without type, as Microsoft writes", "mx.microsoft.com 1; spf=pass (sender ip is 192.0.2.1) smtp.rcpttodomain=a.example smtp.mailfrom=b.example; " +
			"dmarc=pass (p=reject sp=reject pct=100) action=none header.from=b.example; dkim=none (message not signed); arc=none",
			authres.Field{ID: "mx.microsoft.com", Results: []authres.Result{
				{Method: "spf", Value: "pass", Properties: []authres.Property{prop("smtp", "rcpttodomain", "a.example"), prop("smtp", "mailfrom", "b.example")}},
				{Method: "dmarc", Value: "pass", Properties: []authres.Property{prop("", "action", "none"), prop("header", "from", "b.example")}},
				{Method: "dkim", Value: "none"}, {Method: "arc", Value: "none"}}}},
		{"base64 unquoted, as Google writes", "mx.google.com;\r\n       dkim=pass header.i=@a.example header.s=s1 header.b=\"AbC/d+e=\";\r\n       dkim=pass header.i=@a.example header.b=AbC/d+e=",
			authres.Field{ID: "mx.google.com", Results: []authres.Result{
				{Method: "dkim", Value: "pass", Properties: []authres.Property{prop("header", "i", "@a.example"), prop("header", "s", "s1"), prop("header", "b", "AbC/d+e=")}},
				{Method: "dkim", Value: "pass", Properties: []authres.Property{prop("header", "i", "@a.example"), prop("header", "b", "AbC/d+e=")}}}}},
		{"case", "X.example; SPF=PASS SMTP.MailFrom=Y.example", authres.Field{ID: "X.example", Results: []authres.Result{
			{Method: "spf", Value: "pass", Properties: []authres.Property{prop("smtp", "mailfrom", "Y.example")}}}}},
		{"U-labels", "żółw.example; spf=pass smtp.mailfrom=zażółć@gęś.example", authres.Field{ID: "żółw.example", Results: []authres.Result{
			{Method: "spf", Value: "pass", Properties: []authres.Property{prop("smtp", "mailfrom", "zażółć@gęś.example")}}}}},
		{"what is no result is passed over", "x.example; ; ???; spf; spf=; dkim=pass \"; dmarc=pass\"; spf=fail", authres.Field{ID: "x.example", Results: []authres.Result{
			{Method: "dkim", Value: "pass"}, {Method: "spf", Value: "fail"}}}},
		{"a semicolon in a comment parts nothing", "x.example; spf=fail (; dmarc=pass)", authres.Field{ID: "x.example", Results: []authres.Result{{Method: "spf", Value: "fail"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := authres.Parse(tt.in)
			if err != nil {
				t.Error(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"empty": "", "no id": "; spf=pass", "open quote": `x.example; spf=pass smtp.mailfrom="a`, "open comment": "x.example; spf=pass (a",
		"long": "x.example; spf=pass " + strings.Repeat("x", authres.MaxFieldOctets), "many": "x.example" + strings.Repeat("; a=b", authres.MaxResults+1),
	} {
		if f, err := authres.Parse(in); !errors.Is(err, authres.ErrSyntax) || len(f.Results) > authres.MaxResults {
			t.Errorf("%s: got %v, %d results", name, err, len(f.Results))
		}
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		f    authres.Field
		want string
	}{
		{"none", authres.Field{ID: "mx.example.org"}, "Authentication-Results: mx.example.org; none\r\n"},
		{"all methods", authres.Field{ID: "mx.example.org", Results: []authres.Result{
			{Method: "iprev", Value: "pass", Properties: []authres.Property{prop("policy", "iprev", "2001:db8::1")}},
			{Method: "spf", Value: "fail", Reason: `"no"`, Properties: []authres.Property{prop("smtp", "mailfrom", "a b@example.net")}},
			{Method: "dkim", Value: "pass", Properties: []authres.Property{prop("header", "d", "example.com"), prop("header", "s", "sel"), prop("header", "a", "rsa-sha256"),
				prop("header", "i", "@example.com"), prop("header", "b", "abc+/d==")}},
			{Method: "dmarc", Value: "fail", Properties: []authres.Property{prop("header", "from", "example.com"), prop("policy", "dmarc", "quarantine")}},
		}}, "Authentication-Results: mx.example.org;\r\n\tiprev=pass policy.iprev=\"2001:db8::1\";\r\n\tspf=fail reason=\"\\\"no\\\"\" smtp.mailfrom=\"a b@example.net\";\r\n" +
			"\tdkim=pass header.d=example.com header.s=sel header.a=rsa-sha256\r\n\theader.i=@example.com header.b=\"abc+/d==\";\r\n" +
			"\tdmarc=fail header.from=example.com policy.dmarc=quarantine\r\n"},
		{"hostile", authres.Field{ID: "mx.example.org", Results: []authres.Result{{Method: "dkim", Value: "fail", Reason: "a\r\nX: y\x00\xff",
			Properties: []authres.Property{prop("header", "i", "x\r\n\r\nbody@example.com"), prop("", "action", "none")}}}},
			"Authentication-Results: mx.example.org;\r\n\tdkim=fail reason=\"a??X: y??\" header.i=\"x????body@example.com\"\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(tt.want, string(tt.f.Append(nil))); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestFieldLookUp(t *testing.T) {
	t.Parallel()
	f, err := authres.Parse("x.example; dkim=fail header.d=a.example; spf=pass; dkim=pass header.d=b.example header.d=c.example")
	if err != nil {
		t.Fatal(err)
	}
	sigs := f.Of("dkim")
	if len(sigs) != 2 || sigs[1].Get("header", "d") != "b.example" || sigs[1].Get("smtp", "d") != "" || len(f.Of("dmarc")) != 0 {
		t.Errorf("got %+v", sigs)
	}
}

// FuzzField: what is written is read the same, and stays one field.
func FuzzField(f *testing.F) {
	f.Add("mx.example.org", "header", "i", "@example.org", "because")
	f.Add("0", "0", "0", "\u008f", "0")
	f.Add("0", "0", "0", "a@\u0085\ufffd", "0")
	f.Add(`a"b\c`, "smtp", "mailfrom", `"a b"@x.example`, "x; dmarc=pass (")
	f.Fuzz(func(t *testing.T, id, ptype, name, value, reason string) {
		keyword := func(s string) string {
			out := []byte("a")
			for i := range min(len(s), 20) {
				out = append(out, 'a'+s[i]%26)
			}
			return string(out)
		}
		clean := func(s string) string {
			s = strings.Map(func(r rune) rune {
				if r < ' ' || r == utf8.RuneError || r >= 0x7f && r < 0xa0 {
					return '?'
				}
				return r
			}, s)
			return s
		}
		if id == "" || len(value)+len(reason)+len(id) > authres.MaxValueOctets {
			return
		}
		in := authres.Field{ID: clean(id), Results: []authres.Result{
			{Method: keyword(name), Value: keyword(ptype), Reason: clean(reason), Properties: []authres.Property{{Type: keyword(ptype), Name: keyword(name), Value: clean(value)}, prop("policy", "dmarc", "none")}},
			{Method: "spf", Value: "none"}}}
		raw := authres.Field{ID: id, Results: []authres.Result{
			{Method: in.Results[0].Method, Value: in.Results[0].Value, Reason: reason, Properties: []authres.Property{{Type: keyword(ptype), Name: keyword(name), Value: value}, prop("policy", "dmarc", "none")}},
			{Method: "spf", Value: "none"}}}
		text := string(raw.Append(nil))
		lines := strings.Split(strings.TrimSuffix(text, "\r\n"), "\r\n")
		for i, l := range lines {
			if i > 0 && !strings.HasPrefix(l, "\t") || strings.ContainsAny(l, "\r\n") {
				t.Fatalf("%q is not one field", text)
			}
		}
		_, v, _ := strings.Cut(strings.Join(lines, ""), ":")
		got, err := authres.Parse(v)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if d := cmp.Diff(in, got); d != "" {
			t.Errorf("%q: %s", text, d)
		}
	})
}

// FuzzParse: nothing that is read passes the limits, and what is read can be written.
func FuzzParse(f *testing.F) {
	f.Add("foo.example.net (foobar) 1 (baz); dkim (x) / 1 (y) = fail policy . expired = 1")
	f.Add(`x; spf=pass smtp.mailfrom="a b"@c; dmarc=pass action=none`)
	f.Fuzz(func(t *testing.T, s string) {
		got, err := authres.Parse(s)
		if len(got.Results) > authres.MaxResults || err == nil && got.ID == "" {
			t.Fatalf("%d results, id %q", len(got.Results), got.ID)
		}
		if err == nil {
			_, v, _ := strings.Cut(string(got.Append(nil)), ":")
			if again, err := authres.Parse(strings.ReplaceAll(v, "\r\n", "")); err != nil || len(again.Results) != len(got.Results) {
				t.Fatalf("%q: %v, %d results, want %d", s, err, len(again.Results), len(got.Results))
			}
		}
	})
}
