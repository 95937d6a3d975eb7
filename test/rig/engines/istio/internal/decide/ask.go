package decide

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Request is one question.
type Request struct {
	ID        string            `json:"id,omitempty"`
	Source    string            `json:"source,omitempty"`    // SPIFFE ID of the client; empty = none
	DNS       []string          `json:"dns,omitempty"`       // extra DNS SANs in the client certificate
	Transport string            `json:"transport,omitempty"` // mtls | tls (no client certificate) | plaintext; default by source
	Protocol  string            `json:"protocol,omitempty"`  // http | tcp; default the port's
	Port      int               `json:"port,omitempty"`      // default the first
	SourceIP  string            `json:"sourceIp,omitempty"`
	Address   string            `json:"address,omitempty"` // through a waypoint: of the Service or pod that is meant
	SNI       string            `json:"sni,omitempty"`
	Method    string            `json:"method,omitempty"`
	Path      string            `json:"path,omitempty"` // sent byte for byte, query included
	Host      string            `json:"host,omitempty"`
	Headers   map[string]string `json:"headers,omitempty"`
	JWT       map[string]any    `json:"jwt,omitempty"`    // claims, signed with the test key
	JWTRaw    string            `json:"jwtRaw,omitempty"` // sent as it is
}

// Decision is the engine's answer.
type Decision struct {
	ID       string `json:"id,omitempty"`
	Decision string `json:"decision"` // allow | deny | error
	By       string `json:"by"`       // rbac | jwt | tls | connection | http | route
	Status   int    `json:"status,omitempty"`
	Details  string `json:"details,omitempty"` // Envoy's RESPONSE_CODE_DETAILS: names the matched policy on a DENY
	Peer     string `json:"peer,omitempty"`    // URI SAN that Envoy saw
	Chain    string `json:"chain,omitempty"`
	Shadow   string `json:"shadow,omitempty"`
}

type conn struct {
	net.Conn
	r   *bufio.Reader
	key string
}

var httpALPN = []string{"istio-http/1.1", "istio", "http/1.1"} // what a sidecar's istio.alpn filter offers for HTTP/1.1
var tcpALPN = []string{"istio-peer-exchange", "istio"}

func (e *Engine) dial(r *Request) (*conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	if r.SourceIP != "" {
		ip := net.ParseIP(r.SourceIP)
		if ip == nil {
			return nil, fmt.Errorf("bad sourceIp %q", r.SourceIP)
		}
		if err := ensureAddr(ip); err != nil {
			return nil, err
		}
		d.LocalAddr = &net.TCPAddr{IP: ip}
	}
	if e.waypoint {
		return e.tunnel(&d, r)
	}
	c, err := d.Dial("tcp", net.JoinHostPort(e.ip, fmt.Sprint(r.Port)))
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if r.Transport == "plaintext" {
		return &conn{Conn: c, r: bufio.NewReader(c)}, nil
	}
	cfg := &tls.Config{InsecureSkipVerify: true, ServerName: r.SNI, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, NextProtos: httpALPN} // 1.2: a refused client certificate fails the handshake itself
	if r.Protocol == "tcp" {
		cfg.NextProtos = tcpALPN
	}
	if r.Transport == "tls" {
		cfg.NextProtos = []string{"http/1.1"} // a client outside the mesh
		if r.Protocol == "tcp" {
			cfg.NextProtos = nil
		}
	} else {
		leaf, err := e.pki.Leaf(r.Source, r.DNS...)
		if err != nil {
			c.Close()
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{*leaf}
	}
	if r.SNI == "" && r.Transport == "mtls" {
		cfg.ServerName = "outbound_." + fmt.Sprint(r.Port) + "_._.app.default.svc.cluster.local"
	}
	t := tls.Client(c, cfg)
	if err := t.Handshake(); err != nil {
		c.Close()
		return nil, &tlsErr{err}
	}
	return &conn{Conn: t, r: bufio.NewReader(t)}, nil
}

type tlsErr struct{ error }

// Decide asks one question.
func (e *Engine) Decide(q Request) Decision {
	r := q
	if r.Port == 0 {
		r.Port = e.ports[0]
	}
	if r.Protocol == "" {
		r.Protocol = "http"
		if p := e.protos[r.Port]; p == "tcp" || p == "TCP" {
			r.Protocol = "tcp"
		}
	}
	if r.Transport == "" {
		r.Transport = "mtls"
		if r.Source == "" {
			r.Transport = "plaintext"
		}
	}
	if _, ok := e.protos[r.Port]; !ok && !e.waypoint {
		return Decision{ID: q.ID, Decision: "error", By: "oracle", Details: fmt.Sprintf("port %d is not bound", r.Port)}
	}
	if r.Protocol == "tcp" {
		return e.decideTCP(&r)
	}
	return e.decideHTTP(&r)
}

func classify(id string, err error) Decision {
	var t *tlsErr
	if errors.As(err, &t) || strings.Contains(err.Error(), "tls:") {
		return Decision{ID: id, Decision: "deny", By: "tls", Details: err.Error()}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "reset by peer") || strings.Contains(err.Error(), "broken pipe") {
		return Decision{ID: id, Decision: "deny", By: "connection", Details: err.Error()}
	}
	return Decision{ID: id, Decision: "error", By: "oracle", Details: err.Error()}
}

func (e *Engine) decideTCP(r *Request) Decision {
	c, err := e.dial(r)
	if err != nil {
		return classify(r.ID, err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("ping-oracle\n")); err != nil {
		return classify(r.ID, err)
	}
	b := make([]byte, 12)
	if _, err := io.ReadFull(c.r, b); err != nil {
		return classify(r.ID, err)
	}
	if string(b) != "ping-oracle\n" {
		return Decision{ID: r.ID, Decision: "error", By: "oracle", Details: fmt.Sprintf("unexpected bytes %q", b)}
	}
	return Decision{ID: r.ID, Decision: "allow", By: "echo"}
}

func (e *Engine) take(r *Request) (*conn, bool, error) {
	key := strings.Join([]string{r.Transport, r.Source, strings.Join(r.DNS, ","), r.SourceIP, r.SNI, r.Address, fmt.Sprint(r.Port)}, "|")
	e.mu.Lock()
	if cs := e.pool[key]; len(cs) > 0 {
		c := cs[len(cs)-1]
		e.pool[key] = cs[:len(cs)-1]
		e.mu.Unlock()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		return c, true, nil
	}
	e.mu.Unlock()
	c, err := e.dial(r)
	if err != nil {
		return nil, false, err
	}
	c.key = key
	return c, false, nil
}

func (e *Engine) decideHTTP(r *Request) Decision {
	var buf bytes.Buffer
	m, p, h := r.Method, r.Path, r.Host
	if m == "" {
		m = "GET"
	}
	if p == "" {
		p = "/"
	}
	if h == "" {
		h = "app.default.svc.cluster.local"
	}
	fmt.Fprintf(&buf, "%s %s HTTP/1.1\r\nHost: %s\r\n", m, p, h)
	for k, v := range r.Headers {
		fmt.Fprintf(&buf, "%s: %s\r\n", k, v)
	}
	tok := r.JWTRaw
	if r.JWT != nil {
		var err error
		if tok, err = SignJWT(r.JWT); err != nil {
			return Decision{ID: r.ID, Decision: "error", By: "oracle", Details: err.Error()}
		}
	}
	if tok != "" {
		fmt.Fprintf(&buf, "Authorization: Bearer %s\r\n", tok)
	}
	if m == "POST" || m == "PUT" || m == "PATCH" {
		buf.WriteString("Content-Length: 0\r\n")
	}
	buf.WriteString("\r\n")
	for try := 0; ; try++ {
		c, reused, err := e.take(r)
		if err != nil {
			return classify(r.ID, err)
		}
		var resp *http.Response
		if _, err = c.Write(buf.Bytes()); err == nil {
			resp, err = http.ReadResponse(c.r, &http.Request{Method: m})
		}
		if err != nil {
			c.Close()
			if reused && try < 3 {
				continue // a pooled connection that Envoy had closed
			}
			return classify(r.ID, err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err == nil && !resp.Close && resp.StatusCode != 400 {
			e.mu.Lock()
			e.pool[c.key] = append(e.pool[c.key], c)
			e.mu.Unlock()
		} else {
			c.Close()
		}
		d := Decision{ID: r.ID, Status: resp.StatusCode, Details: resp.Header.Get("x-oracle-details"), Peer: resp.Header.Get("x-oracle-peer"), Chain: resp.Header.Get("x-oracle-chain")}
		if set := resp.Header.Get("x-oracle-set"); set != "" && set != fmt.Sprintf("set-%d", e.version) {
			return Decision{ID: r.ID, Decision: "error", By: "oracle", Details: "answer from " + set}
		}
		for _, k := range []string{"deny", "allow"} {
			if v := resp.Header.Get("x-oracle-shadow-" + k); v != "" && v != "-" {
				d.Shadow += k + "=" + v + " "
			}
		}
		d.Shadow = strings.TrimSpace(d.Shadow)
		if d.Peer == "-" {
			d.Peer = ""
		}
		switch {
		case resp.StatusCode == 200 && d.Details == "direct_response":
			d.Decision, d.By = "allow", "route"
		case strings.HasPrefix(d.Details, "rbac_"):
			d.Decision, d.By = "deny", "rbac"
		case strings.HasPrefix(strings.ToLower(d.Details), "jwt_"):
			d.Decision, d.By = "deny", "jwt"
		default:
			d.Decision, d.By = "deny", "http"
		}
		return d
	}
}

// DecideAll asks many, in parallel, and keeps the order.
func (e *Engine) DecideAll(qs []Request, workers int) ([]Decision, error) {
	if len(e.ports) == 0 {
		return nil, errors.New("nothing is loaded")
	}
	out := make([]Decision, len(qs))
	ch := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range ch {
				out[i] = e.Decide(qs[i])
			}
		}()
	}
	for i := range qs {
		ch <- i
	}
	close(ch)
	wg.Wait()
	return out, nil
}
