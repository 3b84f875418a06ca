package config

// Autoconfig says how mail programs find this server.
type Autoconfig struct {
	Mode          string `toml:"mode" default:"auto" oneof:"auto,on,off" doc:"Answer programs over HTTPS with the settings for our domains: Thunderbird's autoconfiguration, Microsoft's autodiscovery, Apple's profiles. auto does where HTTPS is listened on for another reason (tls.mode acme, mta_sts); on listens on listen.https for it; off answers nobody. What is told depends on the domain alone, never on whether an account exists."`
	Certificates  bool   `toml:"certificates" default:"true" doc:"With tls.mode acme: obtain certificates for autoconfig.DOMAIN and autodiscover.DOMAIN of every domain once these names lead to this host. In the other modes they belong into tls.certificate."`
	Name          string `toml:"name" example:"Example's post office" doc:"What programs show as the provider's name. Empty means the domain."`
	Documentation string `toml:"documentation" example:"https://example.org/mail-help" doc:"A page for people who set their program up. Empty: none is told."`
}

// Autoconfigures reports whether mail programs are answered with their settings.
func (c *Config) Autoconfigures() bool {
	switch c.Autoconfig.Mode {
	case "on":
		return len(c.Listen.HTTPS) > 0
	case "auto":
		return len(c.Listen.HTTPS) > 0 && (c.TLS.Mode == "acme" || c.MTASTS.Mode != "none")
	}
	return false
}

// ServesHTTPS reports whether something is served on listen.https.
func (c *Config) ServesHTTPS() bool {
	return c.TLS.Mode == "acme" || c.MTASTS.Mode != "none" || c.Autoconfig.Mode == "on"
}
