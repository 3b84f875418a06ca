package page_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// shared is the one Chromium of all tests that need no proxy of their own: each gets a window with
// cookies of its own.
var shared = sync.OnceValues(func() (context.Context, error) { return launch("127.0.0.1:9") }) // nobody is there: nothing gets out

// TestMain ends what the tests have started.
func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	defer func() {
		for _, end := range launched {
			end()
		}
	}()
	return m.Run()
}

// launched are how the Chromiums are ended; under launching.
var (
	launching sync.Mutex
	launched  []func()
)

var errNoChromium = errors.New("no Chromium: install Debian's package chromium")

// required reports that a missing program is a failure.
func required() bool { return os.Getenv("CI") != "" || os.Getenv("POCZTA_REQUIRE_SERVICES") != "" }

// launch starts a Chromium that asks a proxy for what is not on this computer.
func launch(proxy string) (context.Context, error) {
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil && path == "" {
			path = p
		}
	}
	if path == "" {
		return nil, errNoChromium
	}
	folder, err := os.MkdirTemp("", "poczta-chromium-")
	if err != nil {
		return nil, err
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1360, 850),
		chromedp.Flag("proxy-bypass-list", "127.0.0.1"), chromedp.Flag("proxy-server", proxy), chromedp.UserDataDir(folder),
		chromedp.WSURLReadTimeout(2*time.Minute)) // a busy machine starts it slowly
	all, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(all)
	launching.Lock()
	launched = append(launched, func() {
		cancel()
		stop()
		_ = os.RemoveAll(folder) // Chromium's own files
	})
	launching.Unlock()
	return ctx, chromedp.Do(ctx)
}

// chromium gives a test a window of its own, or skips the test where there is no Chromium. proxy takes
// what is not for this computer, in a Chromium of its own; "" lets nothing out.
func chromium(t *testing.T, proxy string) context.Context {
	t.Helper()
	start := shared
	if proxy != "" {
		start = func() (context.Context, error) { return launch(proxy) }
	}
	browser, err := start()
	if errors.Is(err, errNoChromium) && !required() {
		t.Skip("no Chromium is installed: what a browser shows was not tested")
	}
	if err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	// A window that is not in front has the focus all the same.
	err = chromedp.Do(ctx)
	if err == nil {
		_, err = chromedp.Call(ctx, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	}
	if err != nil {
		t.Fatalf("open a window: %v", err)
	}
	ctx, end := context.WithTimeout(ctx, 10*time.Minute)
	t.Cleanup(end)
	return ctx
}
