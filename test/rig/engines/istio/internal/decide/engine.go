package decide

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Engine is one live Envoy fed by file LDS.
type Engine struct {
	dir, bin, admin string
	cmd             *exec.Cmd
	pki             *PKI
	version         int
	ip              string
	ports           []int
	protos          map[int]string
	mu              sync.Mutex
	pool            map[string][]*conn
	httpAdmin       *http.Client
	Changes         []string
	StartMillis     float64
	LoadMillis      float64
	ServerID        string
	waypoint        bool // what is loaded takes CONNECT
}

// Start launches Envoy with an empty LDS.
func Start(bin string) (*Engine, error) {
	t0 := time.Now()
	dir, err := os.MkdirTemp("", "istio-decide-")
	if err != nil {
		return nil, err
	}
	p, err := NewPKI()
	if err != nil {
		return nil, err
	}
	e := &Engine{dir: dir, bin: bin, admin: filepath.Join(dir, "admin.sock"), pki: p, pool: map[string][]*conn{}, ServerID: "spiffe://cluster.local/ns/default/sa/app"}
	e.httpAdmin = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", e.admin)
	}}}
	for _, of := range []string{"xds", "cds"} {
		if err := os.Mkdir(filepath.Join(dir, of), 0o755); err != nil {
			return nil, err
		}
	}
	if err := e.writeLDS(); err != nil {
		return nil, err
	}
	if err := e.writeCDS(); err != nil {
		return nil, err
	}
	boot := fmt.Sprintf(`{"node":{"id":"oracle","cluster":"oracle"},
"admin":{"address":{"pipe":{"path":%q}}},
"layered_runtime":{"layers":[{"name":"s","static_layer":{"overload":{"global_downstream_max_connections":50000}}}]},
"bootstrap_extensions":[{"name":"internal_listener","typed_config":{"@type":"type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"}}],
"dynamic_resources":{"lds_config":{"path_config_source":{"path":%q,"watched_directory":{"path":%q}},"resource_api_version":"V3"},
"cds_config":{"path_config_source":{"path":%q,"watched_directory":{"path":%q}},"resource_api_version":"V3"}}}`,
		e.admin, filepath.Join(dir, "xds", "lds.json"), filepath.Join(dir, "xds"), filepath.Join(dir, "cds", "cds.json"), filepath.Join(dir, "cds"))
	bf := filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(bf, []byte(boot), 0o644); err != nil {
		return nil, err
	}
	logf, err := os.Create(filepath.Join(dir, "envoy.log"))
	if err != nil {
		return nil, err
	}
	lvl := os.Getenv("ENVOY_LOG")
	if lvl == "" {
		lvl = "warning"
	}
	args := []string{"-c", bf, "--disable-hot-restart", "--concurrency", "1", "-l", "warning", "--drain-time-s", "1", "--drain-strategy", "immediate"}
	if lvl != "warning" {
		args = append(args, "--component-log-level", lvl) // e.g. rbac:debug,jwt:debug
	}
	e.cmd = exec.Command(bin, args...)
	e.cmd.Stdout, e.cmd.Stderr = logf, logf
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // never outlives the oracle
	if err := e.cmd.Start(); err != nil {
		return nil, err
	}
	for i := 0; ; i++ {
		if b, err := e.get("/ready"); err == nil && strings.Contains(b, "LIVE") {
			break
		}
		if i > 1500 {
			e.Close()
			return nil, fmt.Errorf("envoy not ready: %s", e.Log())
		}
		time.Sleep(10 * time.Millisecond)
	}
	e.StartMillis = ms(t0)
	return e, nil
}

func ms(t time.Time) float64 { return float64(time.Since(t).Microseconds()) / 1000 }

func (e *Engine) get(p string) (string, error) {
	r, err := e.httpAdmin.Get("http://admin" + p)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return string(b), err
}

// Log is what Envoy wrote.
func (e *Engine) Log() string {
	b, _ := os.ReadFile(filepath.Join(e.dir, "envoy.log"))
	return string(b)
}

// Close ends Envoy (by its own process handle) and removes the folder.
func (e *Engine) Close() {
	e.closeConns()
	if e.cmd != nil && e.cmd.Process != nil {
		_ = e.cmd.Process.Kill()
		_, _ = e.cmd.Process.Wait()
	}
	if os.Getenv("KEEP") == "" {
		_ = os.RemoveAll(e.dir)
	}
}

func (e *Engine) closeConns() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, cs := range e.pool {
		for _, c := range cs {
			c.Close()
		}
	}
	e.pool = map[string][]*conn{}
}

func (e *Engine) writeLDS(ls ...*listener.Listener) error {
	return writeXDS(e, "lds", "xds", "envoy.config.listener.v3.Listener", ls)
}

func (e *Engine) writeCDS(cs ...*cluster.Cluster) error {
	return writeXDS(e, "cds", "cds", "envoy.config.cluster.v3.Cluster", cs)
}

func writeXDS[T proto.Message](e *Engine, name, folder, kind string, all []T) error {
	d := &discovery.DiscoveryResponse{VersionInfo: fmt.Sprint(e.version), TypeUrl: "type.googleapis.com/" + kind}
	for _, one := range all {
		a, err := anypb.New(one)
		if err != nil {
			return err
		}
		d.Resources = append(d.Resources, a)
	}
	b, err := protojson.Marshal(d)
	if err != nil {
		return err
	}
	tmp := filepath.Join(e.dir, name+".tmp")
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(e.dir, folder, name+".json"))
}

// Load replaces the policy set. Each set gets its own loopback address (127.77.x.y), so an answer can never come from an older set.
// When it fails, nothing is loaded.
func (e *Engine) Load(in *listener.Listener, ports map[int]string, fixedIP string) (err error) {
	t0 := time.Now()
	defer func() {
		if err != nil {
			e.ports = nil
		}
	}()
	e.closeConns()
	e.version++
	e.waypoint = false
	e.protos = ports
	e.ports = nil
	for p := range ports {
		e.ports = append(e.ports, p)
	}
	sort.Ints(e.ports)
	e.ip = fixedIP
	if e.ip == "" {
		e.ip = fmt.Sprintf("127.77.%d.%d", e.version/250%250, e.version%250+1)
	}
	leaf, err := e.pki.Leaf(e.ServerID)
	if err != nil {
		return err
	}
	cert, key := e.pki.PEM(leaf)
	ad, err := Adapt(in, fmt.Sprintf("set-%d", e.version), e.ip, e.ports, cert, key, e.pki.CAPEM)
	if err != nil {
		return err
	}
	e.Changes = ad.Changes
	if err := e.writeLDS(ad.Listener); err != nil {
		return err
	}
	if err := e.await(e.ports[len(e.ports)-1]); err != nil {
		return err
	}
	e.LoadMillis = ms(t0)
	return nil
}

// await returns when the set that was written last is listened for, or refused.
func (e *Engine) await(port int) error {
	want := fmt.Sprintf("set-%d", e.version)
	for i := 0; ; i++ {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(e.ip, fmt.Sprint(port)), time.Second)
		if err == nil {
			c.Close()
			break
		}
		if i%20 == 19 {
			if b, err := e.get("/config_dump?resource=dynamic_listeners"); err == nil && strings.Contains(b, "error_state") && strings.Contains(b, want) {
				var cd struct {
					Configs []struct {
						Name       string `json:"name"`
						ErrorState *struct {
							Details string `json:"details"`
						} `json:"error_state"`
					} `json:"configs"`
				}
				_ = json.Unmarshal([]byte(b), &cd)
				for _, x := range cd.Configs {
					if x.Name == want && x.ErrorState != nil {
						return fmt.Errorf("envoy refused the listener: %s", x.ErrorState.Details)
					}
				}
			}
			if lg := e.Log(); strings.Contains(lg, want) && strings.Contains(lg, "rejected") {
				return fmt.Errorf("envoy refused the listener: %s", tail(lg, 2000))
			}
		}
		if i > 4000 {
			return fmt.Errorf("listener %s did not come up: %s", want, tail(e.Log(), 2000))
		}
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

func tail(s string, n int) string {
	if len(s) > n {
		return s[len(s)-n:]
	}
	return s
}
