package store_test

import (
	"fmt"
	"testing"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mua/store"
)

// pdfLetter is a letter with a PDF file that says words.
func pdfLetter(subject, words string) string {
	return letter(subject, "Content-Type: application/pdf; name=a.pdf\nContent-Disposition: attachment\n\n%PDF-1.4\n"+
		"1 0 obj <</Type /Catalog /Pages 2 0 R>> endobj\n2 0 obj <</Kids [3 0 R]>> endobj\n"+
		"3 0 obj <</Type /Page /Contents 4 0 R /Resources <</Font <</F <</Subtype /Type1 /BaseFont /Courier>>>>>>>> endobj\n"+
		"4 0 obj <<>> stream\nBT /F 9 Tf ("+words+") Tj ET\nendstream endobj\ntrailer <</Root 1 0 R>>\n")
}

// TestReread holds that letters which an older program read are read anew, once, and others not.
func TestReread(t *testing.T) {
	t.Parallel()
	h := open(t)
	for i := range 120 {
		h.add(ala, "", pdfLetter(fmt.Sprintf("with%d", i), fmt.Sprintf("umowa word%d", i)))
	}
	h.add(ala, "", letter("without", "\nplain words\n"))
	h.index()
	if n := len(h.subjects(store.Query{Text: "umowa"})); n != 120 {
		t.Fatalf("%d letters are found", n)
	}
	if n, err := h.RereadSome(t.Context()); n != 0 || err != nil {
		t.Fatalf("of a new store %d letters are read anew: %v", n, err)
	}
	// As an older program left it: what is inside of attachments is not there, nor is the version.
	err := h.DB().Update(t.Context(), func(tx db.Tx) error {
		for _, q := range []string{
			`DELETE FROM store_setting WHERE name = 'read_by'`,
			`INSERT INTO letter_text (letter_text) VALUES ('delete-all')`,
			`INSERT INTO letter_text (rowid, subject) SELECT rank, lower(subject) FROM letter`,
		} {
			if _, err := tx.Exec(q); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := h.found("umowa"); got != "" {
		t.Fatalf("found %q in an old index", got)
	}
	h.index()
	h.add(ala, "", pdfLetter("later", "umowa later"))
	h.index()
	total := 0
	for {
		n, err := h.RereadSome(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h.index()
		if total += n; n == 0 {
			break
		}
		if n == 50 && total == 50 { // the newest come first; closing in the middle loses nothing
			if got := h.found("word119"); got != "with119" {
				t.Errorf("the newest letter is not read anew: %q", got)
			}
			h.reopen()
		}
	}
	if total != 120 {
		t.Errorf("%d letters were read anew, not 120", total)
	}
	if n := len(h.subjects(store.Query{Text: "umowa"})); n != 121 {
		t.Errorf("%d letters are found afterwards", n)
	}
	if got := h.found("without"); got != "without" {
		t.Errorf("a letter without attachments: %q", got)
	}
	if n, err := h.RereadSome(t.Context()); n != 0 || err != nil {
		t.Errorf("%d letters are read a second time: %v", n, err)
	}
}
