// A plugin of SPIRE, made with SPIRE's own plugin SDK, of the type that its first argument names. It keeps what it is configured with and
// what it is asked where a test can see it, and does as its configuration says.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/hcl"
	"github.com/spiffe/spire-plugin-sdk/pluginmain"
	"github.com/spiffe/spire-plugin-sdk/pluginsdk"
	metricsv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/hostservice/common/metrics/v1"
	agentstorev1 "github.com/spiffe/spire-plugin-sdk/proto/spire/hostservice/server/agentstore/v1"
	identityproviderv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/hostservice/server/identityprovider/v1"
	agentnodeattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/nodeattestor/v1"
	svidstorev1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/svidstore/v1"
	workloadattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/workloadattestor/v1"
	bundlepublisherv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/bundlepublisher/v1"
	credentialcomposerv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/credentialcomposer/v1"
	keymanagerv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/keymanager/v1"
	nodeattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/nodeattestor/v1"
	notifierv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/notifier/v1"
	upstreamauthorityv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/upstreamauthority/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Settings are all that any of the types is configured with.
type Settings struct {
	Label  string            `hcl:"label"`
	Count  int               `hcl:"count"`
	Strict bool              `hcl:"strict"`
	Names  []string          `hcl:"names"`
	Nested map[string]string `hcl:"nested"`
	// Die ends the process in the middle of the next call.
	Die bool `hcl:"die"`
	// Giant makes the answer of a workload attestor larger than a host may take.
	Giant bool `hcl:"giant"`
	// Slow leaves each call of a workload attestor without an answer.
	Slow bool `hcl:"slow"`
	// CaKey and CaCertificate, in PEM, are the upstream's.
	CaKey         string `hcl:"ca_key"`
	CaCertificate string `hcl:"ca_certificate"`
	// KeysPath is where the key manager keeps its keys.
	KeysPath string `hcl:"keys_path"`
	// Record is a file for what a bundle publisher, a notifier or a store is told.
	Record string `hcl:"record"`
	// Refuse fails a configuration.
	Refuse string `hcl:"refuse"`
}

type base struct {
	configv1.UnimplementedConfigServer

	mu          sync.Mutex
	settings    Settings
	trustDomain string
	log         hclog.Logger
	configured  func(Settings) error
}

func (b *base) SetLogger(log hclog.Logger) { b.log = log }

func (b *base) Configure(_ context.Context, req *configv1.ConfigureRequest) (*configv1.ConfigureResponse, error) {
	var settings Settings
	if err := hcl.Decode(&settings, req.HclConfiguration); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "unable to decode configuration: %v", err)
	}
	if settings.Refuse != "" {
		return nil, status.Errorf(codes.InvalidArgument, "refuse: %s", settings.Refuse)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settings = settings
	b.trustDomain = req.CoreConfiguration.TrustDomain
	b.log.Info("configured", "label", settings.Label, "token", "not-for-a-log")
	fmt.Println("a line on standard output")
	fmt.Fprintln(os.Stderr, "a line on standard error")
	if b.configured != nil {
		return &configv1.ConfigureResponse{}, b.configured(settings)
	}
	return &configv1.ConfigureResponse{}, nil
}

func (b *base) Validate(_ context.Context, req *configv1.ValidateRequest) (*configv1.ValidateResponse, error) {
	var settings Settings
	if err := hcl.Decode(&settings, req.HclConfiguration); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "unable to decode configuration: %v", err)
	}
	switch settings.Refuse {
	case "":
		return &configv1.ValidateResponse{Valid: true}, nil
	case "wordless":
		return &configv1.ValidateResponse{}, nil
	case "older":
		return nil, status.Error(codes.Unimplemented, "no such method")
	}
	return &configv1.ValidateResponse{Notes: []string{"refuse: " + settings.Refuse, "in " + req.CoreConfiguration.TrustDomain}}, nil
}

// called ends the process if a test wants that.
func (b *base) called() Settings {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.settings.Die {
		os.Exit(7)
	}
	return b.settings
}

type workloadAttestor struct {
	base
	workloadattestorv1.UnimplementedWorkloadAttestorServer

	metrics metricsv1.MetricsServiceClient
}

// BrokerHostServices takes what there is: older hosts have no metrics.
func (p *workloadAttestor) BrokerHostServices(broker pluginsdk.ServiceBroker) error {
	broker.BrokerClient(&p.metrics)
	return nil
}

func (p *workloadAttestor) Attest(ctx context.Context, req *workloadattestorv1.AttestRequest) (*workloadattestorv1.AttestResponse, error) {
	s := p.called()
	if s.Slow {
		p.log.Info("asked")
		<-ctx.Done()
		p.log.Info("cancelled")
		return nil, ctx.Err()
	}
	if s.Giant {
		return &workloadattestorv1.AttestResponse{SelectorValues: []string{strings.Repeat("x", 16<<20)}}, nil
	}
	if p.metrics.IsInitialized() {
		if err := measure(ctx, &p.metrics, s.Label); err != nil {
			return nil, err
		}
	}
	values := []string{fmt.Sprintf("pid:%d", req.Pid), "label:" + s.Label, fmt.Sprintf("count:%d", s.Count), fmt.Sprintf("strict:%t", s.Strict)}
	for _, name := range s.Names {
		values = append(values, "name:"+name)
	}
	for key, value := range s.Nested {
		values = append(values, "nested:"+key+":"+value)
	}
	return &workloadattestorv1.AttestResponse{SelectorValues: values}, nil
}

type agentNodeAttestor struct {
	base
	agentnodeattestorv1.UnimplementedNodeAttestorServer
}

func (p *agentNodeAttestor) AidAttestation(stream agentnodeattestorv1.NodeAttestor_AidAttestationServer) error {
	s := p.called()
	payload := &agentnodeattestorv1.PayloadOrChallengeResponse_Payload{Payload: []byte(s.Label)}
	if err := stream.Send(&agentnodeattestorv1.PayloadOrChallengeResponse{Data: payload}); err != nil {
		return err
	}
	challenge, err := stream.Recv()
	if err != nil {
		return err
	}
	answer := &agentnodeattestorv1.PayloadOrChallengeResponse_ChallengeResponse{ChallengeResponse: append([]byte("answer to "), challenge.Challenge...)}
	return stream.Send(&agentnodeattestorv1.PayloadOrChallengeResponse{Data: answer})
}

type serverNodeAttestor struct {
	base
	nodeattestorv1.UnimplementedNodeAttestorServer

	agents agentstorev1.AgentStoreServiceClient
	host   identityproviderv1.IdentityProviderServiceClient
}

// BrokerHostServices is refused by hosts that cannot say which agents have attested already.
func (p *serverNodeAttestor) BrokerHostServices(broker pluginsdk.ServiceBroker) error {
	if !broker.BrokerClient(&p.agents) {
		return status.Error(codes.FailedPrecondition, "AgentStore host service is required")
	}
	broker.BrokerClient(&p.host)
	return nil
}

func (p *serverNodeAttestor) Attest(stream nodeattestorv1.NodeAttestor_AttestServer) error {
	s := p.called()
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	node := string(req.GetPayload())
	if node == "stranger" {
		return status.Error(codes.PermissionDenied, "nobody knows this node")
	}
	if err := stream.Send(&nodeattestorv1.AttestResponse{Response: &nodeattestorv1.AttestResponse_Challenge{Challenge: []byte("who?")}}); err != nil {
		return err
	}
	req, err = stream.Recv()
	if err != nil {
		return err
	}
	if string(req.GetChallengeResponse()) != "answer to who?" {
		return status.Error(codes.PermissionDenied, "wrong answer")
	}
	id := fmt.Sprintf("spiffe://%s/spire/agent/%s/%s", p.trustDomain, s.Label, node)
	_, err = p.agents.GetAgentInfo(stream.Context(), &agentstorev1.GetAgentInfoRequest{AgentId: id})
	if err != nil && status.Code(err) != codes.NotFound {
		return err
	}
	selectors := []string{"node:" + node, fmt.Sprintf("known:%t", err == nil)}
	if p.host.IsInitialized() {
		server, err := identify(stream.Context(), &p.host)
		if err != nil {
			return err
		}
		selectors = append(selectors, "server:"+server)
	}
	return stream.Send(&nodeattestorv1.AttestResponse{Response: &nodeattestorv1.AttestResponse_AgentAttributes{
		AgentAttributes: &nodeattestorv1.AgentAttributes{
			SpiffeId:       id,
			SelectorValues: selectors,
			CanReattest:    true,
		},
	}})
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: plugin TYPE")
		os.Exit(2)
	}
	switch os.Args[1] {
	case "WorkloadAttestor":
		p := new(workloadAttestor)
		pluginmain.Serve(workloadattestorv1.WorkloadAttestorPluginServer(p), configv1.ConfigServiceServer(p))
	case "ReferenceWorkloadAttestor":
		p := new(referenceAttestor)
		pluginmain.Serve(workloadattestorv1.WorkloadAttestorPluginServer(p), configv1.ConfigServiceServer(p))
	case "AgentNodeAttestor":
		p := new(agentNodeAttestor)
		pluginmain.Serve(agentnodeattestorv1.NodeAttestorPluginServer(p), configv1.ConfigServiceServer(p))
	case "ServerNodeAttestor":
		p := new(serverNodeAttestor)
		pluginmain.Serve(nodeattestorv1.NodeAttestorPluginServer(p), configv1.ConfigServiceServer(p))
	case "BundlePublisher":
		p := new(bundlePublisher)
		pluginmain.Serve(bundlepublisherv1.BundlePublisherPluginServer(p), configv1.ConfigServiceServer(p))
	case "Notifier":
		p := new(notifier)
		pluginmain.Serve(notifierv1.NotifierPluginServer(p), configv1.ConfigServiceServer(p))
	case "CredentialComposer":
		p := new(composer)
		pluginmain.Serve(credentialcomposerv1.CredentialComposerPluginServer(p), configv1.ConfigServiceServer(p))
	case "SVIDStore":
		p := new(store)
		pluginmain.Serve(svidstorev1.SVIDStorePluginServer(p), configv1.ConfigServiceServer(p))
	case "KeyManager":
		p := newKeyManager()
		pluginmain.Serve(keymanagerv1.KeyManagerPluginServer(p), configv1.ConfigServiceServer(p))
	case "UpstreamAuthority":
		p := newUpstream()
		pluginmain.Serve(upstreamauthorityv1.UpstreamAuthorityPluginServer(p), configv1.ConfigServiceServer(p))
	}
}
