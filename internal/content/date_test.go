package content_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"poczta.example/poczta/internal/content"
)

// TestDates holds dates against mail-parser's table.
func TestDates(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("POCZTA_TESTDATA")
	raw, err := os.ReadFile(filepath.Join(dir, "mime", "mail-parser", "fields", "date.json"))
	if dir == "" || err != nil {
		t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
	}
	var cases []struct {
		Header   string
		Expected *struct {
			Year, Month, Day, Hour, Minute, Second int
			West                                   bool `json:"tz_before_gmt"`
			ZoneHour                               int  `json:"tz_hour"`
			ZoneMinute                             int  `json:"tz_minute"`
		}
	}
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	same, meant := 0, 0
	for _, c := range cases {
		got, ok := content.ParseDate(c.Header)
		var want time.Time
		if e := c.Expected; e != nil {
			zone := e.ZoneHour*3600 + e.ZoneMinute*60
			if e.West {
				zone = -zone
			}
			want = time.Date(e.Year, time.Month(e.Month), e.Day, e.Hour, e.Minute, e.Second, 0, time.FixedZone("", zone))
		}
		why := dateDeviations[c.Header]
		switch same1 := ok == (c.Expected != nil) && got.Equal(want); {
		case same1 && why == "":
			same++
		case same1:
			t.Errorf("%q reads the same: the table of deviations need not name it", c.Header)
		case why == "":
			t.Errorf("%q: got %v %v, want %v", c.Header, got, ok, want)
		default:
			meant++
		}
	}
	t.Logf("mail-parser dates: %d of %d the same, %d differ as meant", same, len(cases), meant)
}

// dateDeviations are dates that we read otherwise, and why.
var dateDeviations = map[string]string{
	"Tue, 1 Jul 2003 ((invalid)\ncomment) 10:52:37 +0200":             "mail-parser ends the field at the line end; package message has unfolded what comes here",
	"20 11 (some \n 44 comments(more comments\n )) 79 05:34:27 -0300": "a month in digits is none",
	" 4 8 15 16 23 42, 4 8 15 16 23 42, 4 8 15 16 23 42, ":            "no date",
	"by 2002:aa7:cd10:0:b0:45c:2c83:1208 with SMTP id b16-20020aa7cd10000000b0045c2c831208mr4220805edw.81.1665423075119;\n\tMon, 10 Oct 2022 10:31:15 -0700 (PDT)": "the end of a Received field, not a Date",
}
