package decide

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	clusterpb "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corepb "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"

	"signet.test/rig/istio/internal/render"
)

const tunnelPort = 15008

// LoadWaypoint replaces the policy set by a waypoint: its CONNECT listener, and the internal one behind, which judges.
func (e *Engine) LoadWaypoint(t *render.Tunnel) (err error) {
	t0 := time.Now()
	e.closeConns()
	e.version++
	e.waypoint, e.protos, e.ports = true, map[int]string{}, nil
	e.ip = fmt.Sprintf("127.77.%d.%d", e.version/250%250, e.version%250+1)
	leaf, err := e.pki.Leaf(e.ServerID)
	if err != nil {
		return err
	}
	cert, key := e.pki.PEM(leaf)
	name := fmt.Sprintf("set-%d", e.version)
	seen := map[string]bool{}
	e.Changes = nil
	note := func(f string, a ...any) {
		if s := fmt.Sprintf(f, a...); !seen[s] {
			seen[s] = true
			e.Changes = append(e.Changes, s)
		}
	}
	terminate, err := adaptTerminate(t.Terminate, name, e.ip, server{name, cert, key, e.pki.CAPEM}, note)
	if err != nil {
		return err
	}
	internal := proto.Clone(t.Internal).(*listener.Listener)
	internal.Name, internal.AccessLog = name+"-internal", nil
	if internal.FilterChains, err = adaptChains(internal.FilterChains, server{name: name}, note); err != nil {
		return err
	}
	cluster := proto.Clone(t.Cluster).(*clusterpb.Cluster)
	cluster.Name = name + "-internal"
	cluster.LoadAssignment.ClusterName = cluster.Name
	for _, l := range cluster.LoadAssignment.Endpoints {
		for _, x := range l.LbEndpoints {
			x.HostIdentifier = &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{Address: &corepb.Address{
				Address: &corepb.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corepb.EnvoyInternalAddress{
					AddressNameSpecifier: &corepb.EnvoyInternalAddress_ServerListenerName{ServerListenerName: internal.Name},
				}},
			}}}
		}
	}
	if err := e.writeCDS(cluster); err != nil {
		return err
	}
	for i := 0; ; i++ {
		if b, err := e.get("/clusters"); err == nil && strings.Contains(b, cluster.Name+"::") {
			break
		}
		if i > 2000 {
			return fmt.Errorf("cluster %s did not come up: %s", cluster.Name, tail(e.Log(), 2000))
		}
		time.Sleep(2 * time.Millisecond)
	}
	if err := e.writeLDS(internal, terminate); err != nil {
		return err
	}
	if err := e.await(tunnelPort); err != nil {
		return err
	}
	e.ports = []int{tunnelPort}
	e.LoadMillis = ms(t0)
	return nil
}

// adaptTerminate keeps the CONNECT listener as it is, but for its address, its certificates, and where it leads.
func adaptTerminate(in *listener.Listener, name, ip string, s server, note func(string, ...any)) (*listener.Listener, error) {
	l := proto.Clone(in).(*listener.Listener)
	l.Name, l.Address, l.AdditionalAddresses, l.AccessLog = name, addr(ip, tunnelPort), nil, nil
	routes := map[*listener.FilterChain]*route.RouteConfiguration{}
	for _, fc := range l.FilterChains {
		for _, f := range fc.Filters {
			h := &hcm.HttpConnectionManager{}
			if err := f.GetTypedConfig().UnmarshalTo(h); err != nil {
				return nil, err
			}
			routes[fc] = h.GetRouteConfig()
		}
	}
	var err error
	if l.FilterChains, err = adaptChains(l.FilterChains, s, note); err != nil {
		return nil, err
	}
	for _, fc := range l.FilterChains {
		for _, f := range fc.Filters {
			h := &hcm.HttpConnectionManager{}
			if err := f.GetTypedConfig().UnmarshalTo(h); err != nil {
				return nil, err
			}
			r := routes[fc]
			for _, v := range r.VirtualHosts {
				for _, one := range v.Routes {
					one.GetRoute().ClusterSpecifier = &route.RouteAction_Cluster{Cluster: name + "-internal"}
				}
			}
			h.RouteSpecifier = &hcm.HttpConnectionManager_RouteConfig{RouteConfig: r}
			h.LocalReplyConfig = nil
			f.ConfigType = &listener.Filter_TypedConfig{TypedConfig: anyOf(h)}
		}
	}
	return l, nil
}

// tunnel connects as a ztunnel does: CONNECT over HTTP/2 over mutual TLS, by the caller's certificate.
func (e *Engine) tunnel(d *net.Dialer, r *Request) (*conn, error) {
	if r.Source == "" || r.Address == "" {
		return nil, fmt.Errorf("through a waypoint go requests with source and address")
	}
	c, err := d.Dial("tcp", net.JoinHostPort(e.ip, fmt.Sprint(tunnelPort)))
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	leaf, err := e.pki.Leaf(r.Source, r.DNS...)
	if err != nil {
		c.Close()
		return nil, err
	}
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{*leaf}})
	if err := t.Handshake(); err != nil {
		c.Close()
		return nil, &tlsErr{err}
	}
	h, err := (&http2.Transport{}).NewClientConn(t)
	if err != nil {
		c.Close()
		return nil, err
	}
	body, w := io.Pipe()
	authority := net.JoinHostPort(r.Address, fmt.Sprint(r.Port))
	resp, err := h.RoundTrip(&http.Request{Method: http.MethodConnect, URL: &url.URL{Host: authority}, Host: authority, Header: http.Header{}, Body: body})
	if err != nil {
		c.Close()
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		c.Close()
		return nil, fmt.Errorf("CONNECT %s: %s", authority, resp.Status)
	}
	s := &stream{Conn: c, body: resp.Body, w: w}
	return &conn{Conn: s, r: bufio.NewReader(s)}, nil
}

// stream is what runs in the tunnel.
type stream struct {
	net.Conn
	body io.ReadCloser
	w    *io.PipeWriter
}

// Read takes a reset for what it is: the waypoint has closed the connection inside.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.body.Read(b)
	var reset http2.StreamError
	if errors.As(err, &reset) && reset.Code == http2.ErrCodeConnect {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
func (s *stream) Write(b []byte) (int, error) { return s.w.Write(b) }
func (s *stream) Close() error {
	s.w.Close()
	s.body.Close()
	return s.Conn.Close()
}
