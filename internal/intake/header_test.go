package intake_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
)

// onlooker is an inspection that reads all it is given, and has a field added.
type onlooker struct {
	header        []byte // Incoming.Header itself
	seen          string // it, and Whole.Header, when the message was judged
	whole, behind string
	body          strings.Builder // what was written
}

func (o *onlooker) Write(p []byte) (int, error) { return o.body.Write(p) }
func (o *onlooker) Abort()                      {}

func (o *onlooker) Judge(_ context.Context, w *intake.Whole) (intake.Judgement, error) {
	whole, err := io.ReadAll(io.NewSectionReader(w.Message, 0, w.Size))
	if err != nil {
		return intake.Judgement{}, err
	}
	behind, err := io.ReadAll(io.NewSectionReader(w.Body, 0, w.BodySize))
	if err != nil {
		return intake.Judgement{}, err
	}
	o.seen, o.whole, o.behind = string(o.header)+string(w.Header), string(whole), string(behind)
	return intake.Judgement{Header: append([]byte("X-Seen: yes\r\n"), o.header...)}, nil
}

// TestHeaderStays: however long the message is, and in whatever pieces it comes, its header section
// is the same for who inspects it at the beginning, who judges it at its end, who changes it, and
// in the report that tells its sender.
func TestHeaderStays(t *testing.T) {
	t.Parallel()
	from := "From: Jan <jan@example.net>\r\n"
	for headName, head := range map[string]string{
		"short":       from + "Subject: Hi\r\nMessage-ID: <1@example.net>\r\n",
		"stripped":    "Return-Path: <x@example.net>\r\n" + from + "Subject: Hi\r\n",
		"fills":       from + strings.Repeat("X-Long: "+strings.Repeat("h", 70)+"\r\n", 202),
		"grows":       from + strings.Repeat("X-Long: "+strings.Repeat("h", 70)+"\r\n", 1000),
		"nearly none": "A: b\r\n",
	} {
		for _, size := range []int{0, 100, 4 << 10, 16 << 10, 40 << 10, 300 << 10} {
			t.Run(fmt.Sprint(headName, " ", size), func(t *testing.T) {
				t.Parallel()
				h, o := newHouse(t), &onlooker{}
				body := strings.Repeat(strings.Repeat("b", 61)+"\r\n", size/63)
				rules := intake.Rules{Inspect: func(_ context.Context, m intake.Incoming) (intake.Inspection, error) {
					o.header = m.Header
					return o, nil
				}}
				tx, err := h.Begin(env(t, "jan@example.net"), rules)
				if err != nil {
					t.Fatal(err)
				}
				if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, "ala@example.org"), Notify: envelope.NotifySuccess}); err != nil {
					t.Fatal(err)
				}
				if _, err := tx.Data(t.Context(), &pieces{text: head + "\r\n" + body}); err != nil {
					t.Fatal(err)
				}
				kept := strings.TrimPrefix(head, "Return-Path: <x@example.net>\r\n")
				got := h.accepter.Accepted()[0]
				if o.seen != head+head || o.whole != head+"\r\n"+body || o.behind != body || o.body.String() != body {
					t.Errorf("the inspection saw header sections %.300q, a message %.300q and bodies %.100q, %.100q", o.seen, o.whole, o.behind, o.body.String())
				}
				if want := "X-Seen: yes\r\n" + kept + "\r\n" + body; got.Text != want {
					t.Errorf("stored was %.300q, want %.300q", got.Text, want)
				}
				if len(got.Also) != 1 || !strings.Contains(got.Also[0].Text, strings.SplitAfter(kept, "\r\n")[0]) {
					t.Errorf("the report does not show the header section: %+v", got.Also)
				}
			})
		}
	}
}

// pieces gives a text in pieces as a connection does.
type pieces struct{ text string }

func (p *pieces) Read(b []byte) (int, error) {
	if p.text == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), 4096)], p.text)
	p.text = p.text[n:]
	return n, nil
}
