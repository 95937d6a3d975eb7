package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

const authorizeUsage = "any, id:<SPIFFE ID> or member:<trust domain>"

func authorizer(text string) (tlsconfig.Authorizer, error) {
	if text == "any" {
		return tlsconfig.AuthorizeAny(), nil
	}
	kind, value, _ := strings.Cut(text, ":")
	switch kind {
	case "id":
		id, err := spiffeid.FromString(value)
		return tlsconfig.AuthorizeID(id), err
	case "member":
		td, err := spiffeid.TrustDomainFromString(value)
		return tlsconfig.AuthorizeMemberOf(td), err
	}
	return nil, fmt.Errorf("-authorize %q: want %s", text, authorizeUsage)
}

func (t target) x509Source(ctx context.Context) (*workloadapi.X509Source, error) {
	ctx, cancel := t.within(ctx)
	defer cancel()
	return workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(t.options()...))
}

func tlsServer(ctx context.Context, args []string) error {
	t := newTarget("tls server")
	authorize := t.set.String("authorize", "any", authorizeUsage)
	t.parse(args)
	auth, err := authorizer(*authorize)
	if err != nil {
		return err
	}
	source, err := t.x509Source(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	listener, err := spiffetls.ListenWithMode(ctx, "tcp", "127.0.0.1:0", spiffetls.MTLSServerWithSource(auth, source))
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	emit(object{"listening": listener.Addr().String()})
	for {
		conn, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		go echo(conn)
	}
}

func echo(conn net.Conn) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		peer, err := spiffetls.PeerIDFromConn(conn)
		if err != nil {
			emit(object{"refused": err.Error()})
			return
		}
		if _, err := fmt.Fprintf(conn, "%s %s\n", peer, lines.Text()); err != nil {
			return
		}
	}
	if err := lines.Err(); err != nil {
		emit(object{"refused": err.Error()})
	}
}

// One call for each line of stdin: over a new connection, or with -keep over the first one.
func tlsClient(ctx context.Context, args []string) error {
	t := newTarget("tls client")
	authorize := t.set.String("authorize", "any", authorizeUsage)
	address := t.set.String("address", "", "host:port")
	keep := t.set.Bool("keep", false, "keep one connection for all calls")
	t.parse(args)
	auth, err := authorizer(*authorize)
	if err != nil {
		return err
	}
	source, err := t.x509Source(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	var conn net.Conn
	var replies *bufio.Reader
	call := func(line string) error {
		if conn == nil {
			dialCtx, cancel := t.within(ctx)
			defer cancel()
			if conn, err = spiffetls.DialWithMode(dialCtx, "tcp", *address, spiffetls.MTLSClientWithSource(auth, source)); err != nil {
				conn = nil
				return err
			}
			replies = bufio.NewReader(conn)
		}
		if _, err := fmt.Fprintln(conn, line); err != nil {
			return err
		}
		reply, err := replies.ReadString('\n')
		if err != nil {
			return err
		}
		emit(describePeer(conn, strings.TrimSuffix(reply, "\n")))
		return nil
	}
	lines := bufio.NewScanner(os.Stdin)
	emit(object{"ready": true})
	for lines.Scan() {
		err := call(lines.Text())
		if err != nil {
			emit(failure(err))
		}
		if conn != nil && (err != nil || !*keep) {
			conn.Close()
			conn = nil
		}
	}
	return lines.Err()
}

func describePeer(conn net.Conn, reply string) object {
	o := object{"reply": reply}
	if id, err := spiffetls.PeerIDFromConn(conn); err == nil {
		o["peer"] = id.String()
	}
	type stated interface{ ConnectionState() tls.ConnectionState }
	if c, ok := conn.(stated); ok {
		state := c.ConnectionState()
		o["tls"] = tls.VersionName(state.Version)
		if len(state.PeerCertificates) > 0 {
			o["serial"] = hex.EncodeToString(state.PeerCertificates[0].SerialNumber.Bytes())
		}
	}
	return o
}
