package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/daemon"
)

type serveCmd struct{}

// Run implements local.
func (s *serveCmd) Run(ctx context.Context, p *process, c *cli) error {
	env := daemon.ReadEnvironment()
	conf, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	d, err := daemon.New(daemon.Config{File: c.Config, Config: conf, Environment: env, Output: p.stderr, Version: version, Commands: commands})
	if err != nil {
		return err
	}
	return runDaemon(ctx, d)
}

// runDaemon runs a server until ctx ends, with reloads by SIGHUP.
func runDaemon(ctx context.Context, d *daemon.Daemon) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	reload := make(chan struct{}, 1)
	stop := make(chan struct{})
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		for {
			select {
			case <-stop:
				return
			case <-hup:
				select {
				case reload <- struct{}{}:
				default: // one is waiting already
				}
			}
		}
	}()
	err := d.Run(ctx, reload)
	close(stop)
	<-joined
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

type versionCmd struct{}

// Run implements local.
func (*versionCmd) Run(_ context.Context, p *process, _ *cli) error {
	line := "poczta " + version
	if info, ok := debug.ReadBuildInfo(); ok {
		line += " " + info.GoVersion
	}
	_, err := fmt.Fprintln(p.stdout, line)
	return err
}

type docCmd struct{}

// Run implements local.
func (*docCmd) Run(_ context.Context, p *process, _ *cli) error {
	_, err := fmt.Fprint(p.stdout, config.Document())
	return err
}
