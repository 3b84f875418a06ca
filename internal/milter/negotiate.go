package milter

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// The largest pieces of a body, one octet less than the round number as in libmilter.
const (
	chunk64K    = 64<<10 - 1
	chunk256Kib = 256<<10 - 1
	chunk1Mib   = 1<<20 - 1
)

// bufferOctets is how much of a dialogue is written in one go.
const bufferOctets = 16 << 10

// connect opens a connection and agrees on what is said over it.
func (c *Client) connect(ctx context.Context) (*conn, error) {
	began := time.Now()
	inner, cancel := context.WithTimeout(ctx, c.cfg.Connect)
	defer cancel()
	k, err := c.open(inner)
	if c.cfg.Hooks.Dialled != nil {
		c.cfg.Hooks.Dialled(time.Since(began), err)
	}
	return k, err
}

func (c *Client) open(ctx context.Context) (*conn, error) {
	raw, err := c.cfg.Dial(ctx, c.network, c.address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	k := &conn{Conn: raw, r: bufio.NewReaderSize(raw, bufferOctets), w: bufio.NewWriterSize(raw, bufferOctets), chunk: chunk64K}
	stop := context.AfterFunc(ctx, k.interrupt)
	k.deadline(ctx, time.Now().Add(c.cfg.Connect))
	err = c.negotiate(k)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("at the negotiation: %w", err)
	}
	return k, nil
}

// offered is what this client can do in a version of the protocol.
func (c *Client) offered() (action, step) {
	acts := actAddHeaders | actChangeBody | actAddRcpt | actDelRcpt | actChangeHeaders | actQuarantine
	steps := noConnect | noHello | noMail | noRcpt | noBody | noHeaders | noEOH
	if c.cfg.Version >= 3 {
		steps |= noUnknown
	}
	if c.cfg.Version >= 4 {
		steps |= noData
	}
	if c.cfg.Version >= 6 {
		acts |= actChangeFrom | actAddRcptPar | actSetMacros
		steps |= quietHeader | canSkip | quietConnect | quietHello | quietMail | quietRcpt | quietData | quietUnknown | quietEOH | quietBody | leadSpace
		switch {
		case c.cfg.Chunk >= chunk1Mib:
			steps |= chunk1M
		case c.cfg.Chunk >= chunk256Kib:
			steps |= chunk256K
		}
	}
	if c.cfg.Spool == nil {
		acts &^= actChangeBody
	}
	return acts, steps
}

func (c *Client) negotiate(k *conn) error {
	acts, steps := c.offered()
	var b []byte
	b = binary.BigEndian.AppendUint32(b, uint32(c.cfg.Version)) // 2 to 6
	b = binary.BigEndian.AppendUint32(b, uint32(acts))
	b = binary.BigEndian.AppendUint32(b, uint32(steps))
	writePacket(k.w, cmdOptions, b)
	if err := k.w.Flush(); err != nil {
		return ioError(err)
	}
	cmd, data, err := readPacket(k.r, c.cfg.MaxPacket)
	if err != nil {
		return ioError(err)
	}
	if cmd != cmdOptions || len(data) < 12 {
		return fmt.Errorf("%w: it answers with %s of %d octets", ErrProtocol, quoteCmd(cmd), len(data))
	}
	version := binary.BigEndian.Uint32(data)
	k.actions, k.steps = action(binary.BigEndian.Uint32(data[4:])), step(binary.BigEndian.Uint32(data[8:]))
	if version < 2 || version > uint32(c.cfg.Version) { // 2 to 6
		return fmt.Errorf("%w: it wants version %d, offered are 2 to %d", ErrProtocol, version, c.cfg.Version)
	}
	if more := k.actions &^ acts; more != 0 {
		return fmt.Errorf("%w: it wants changes that are not offered (%#x)", ErrProtocol, uint32(more))
	}
	if more := k.steps &^ steps; more != 0 {
		return fmt.Errorf("%w: it wants steps that are not offered (%#x)", ErrProtocol, uint32(more))
	}
	k.version = int(version)
	switch {
	case k.steps&chunk1M != 0:
		k.chunk = chunk1Mib
	case k.steps&chunk256K != 0:
		k.chunk = chunk256Kib
	}
	k.macros, err = parseMacroLists(data[12:])
	return err
}

// parseMacroLists reads the macros that a milter asks for, stage by stage.
func parseMacroLists(data []byte) (map[macroStage]map[string]bool, error) {
	var lists map[macroStage]map[string]bool
	for len(data) > 0 {
		if len(data) < 5 {
			return nil, fmt.Errorf("%w: its list of macros is cut off", ErrProtocol)
		}
		at := macroStage(binary.BigEndian.Uint32(data))
		names, rest, ok := cutString(data[4:])
		if !ok {
			return nil, fmt.Errorf("%w: its list of macros does not end", ErrProtocol)
		}
		data = rest
		if lists == nil {
			lists = map[macroStage]map[string]bool{}
		}
		if at >= numMacroStages {
			continue // a stage of later versions
		}
		set := map[string]bool{}
		for name := range strings.FieldsFuncSeq(names, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' }) {
			set[name] = true
		}
		lists[at] = set
	}
	return lists, nil
}

// ioError says what an error of the connection means.
func ioError(err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, errPacket):
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return ErrTimeout
	}
	return fmt.Errorf("%w: the connection broke: %w", ErrUnavailable, err)
}

func quoteCmd(cmd byte) string { return fmt.Sprintf("%q", string(rune(cmd))) }
