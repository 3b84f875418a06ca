package peer_test

import (
	"bufio"
	"fmt"
	"io"

	"poczta.example/poczta/internal/mailtest/peer"
)

// A server that refuses one recipient and loses the reply to the message.
func Example() {
	p := peer.New(peer.Config{Rules: []peer.Rule{
		{Stage: peer.Rcpt, Match: "nobody@", Do: peer.Reply("550 5.1.1 nobody here")},
		{Stage: peer.Final, Times: 1, Do: peer.Drop()},
	}})
	defer p.Close()
	conn := p.Dial()
	_, _ = io.WriteString(conn, "EHLO us.example\r\nMAIL FROM:<a@us.example>\r\nRCPT TO:<b@peer.example>\r\nRCPT TO:<nobody@peer.example>\r\n"+
		"DATA\r\nMessage-ID: <1@us.example>\r\n\r\nhello\r\n.\r\n")
	for replies := bufio.NewScanner(conn); replies.Scan(); {
		if line := replies.Text(); line[3] == ' ' {
			fmt.Println(line)
		}
	}
	fmt.Println(p.Copies(), p.Messages()[0].Claimed)
	// Output:
	// 220 peer.example ESMTP
	// 250 ENHANCEDSTATUSCODES
	// 250 2.1.0 sender fine
	// 250 2.1.5 recipient fine
	// 550 5.1.1 nobody here
	// 354 go on
	// map[{<1@us.example> b@peer.example}:1] false
}
