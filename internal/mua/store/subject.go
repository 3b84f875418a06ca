package store

import (
	"strings"
	"unicode/utf8"

	"poczta.example/poczta/internal/mua/store/search"
)

// replyWords stand in front of a subject in replies and forwards, in several languages.
var replyWords = map[string]bool{
	"re": true, "odp": true, "aw": true, "antw": true, "antwort": true, "sv": true, "vs": true, "rif": true, "ref": true, "res": true, "回复": true, "答复": true,
	"fw": false, "fwd": false, "pd": false, "wg": false, "tr": false, "rv": false, "i": false, "vl": false, "doorst": false, "转发": false,
}

// baseSubject takes the words of replies and forwards, and names of lists in brackets, from a
// subject (the idea of RFC 5256 §2.1), and says whether it is one of a reply. The base is folded.
func baseSubject(subject string) (base string, reply bool) {
	s := strings.TrimSpace(subject)
	for {
		if rest, ok := cutBracket(s); ok {
			s = rest
			continue
		}
		i := strings.IndexAny(s, ":：")
		if i <= 0 || i > 24 {
			break
		}
		word := strings.ToLower(strings.TrimSpace(s[:i]))
		if j := strings.IndexAny(word, "[(^"); j > 0 { // Re[2]:
			word = strings.TrimSpace(word[:j])
		}
		isReply, known := replyWords[word]
		if !known {
			break
		}
		reply = reply || isReply
		_, n := utf8.DecodeRuneInString(s[i:])
		s = strings.TrimSpace(s[i+n:])
	}
	return search.Fold(s, maxSubject), reply
}

// cutBracket takes a list's name in brackets from the front, if more stands behind it.
func cutBracket(s string) (rest string, ok bool) {
	if !strings.HasPrefix(s, "[") {
		return s, false
	}
	end := strings.IndexByte(s, ']')
	if end < 0 || end > 60 || strings.TrimSpace(s[end+1:]) == "" {
		return s, false
	}
	return strings.TrimSpace(s[end+1:]), true
}

// subjectKey is the hash of a subject for threads; 0 for one that says too little.
func subjectKey(base string) int64 {
	if len(base) < minBase {
		return 0
	}
	return hash64("subject", base)
}

// minBase is how many octets a subject must have to tell a conversation.
const minBase = 4
