// A service that serves over mutual TLS alone and lets its AccessPolicy decide on each request.
//
//   SPIFFE_ENDPOINT_SOCKET  the Workload API
//   POLICY_FILE             YAML with the AccessPolicy
//   PORT                    where to listen; any free port unless said
import { readFileSync } from 'node:fs';
import { URL } from 'node:url';
import { parseAllDocuments } from 'yaml';
import {
  compilePolicySet,
  createMtlsServer,
  createX509Source,
  httpAuthorizer,
} from '../../../dist/workload/index.js';
import { say, sayIdentity } from './say.mjs';

const source = await createX509Source();
sayIdentity(source);

const documents = parseAllDocuments(readFileSync(process.env.POLICY_FILE, 'utf8')).map((each) => each.toJS());
const policies = compilePolicySet(
  documents.filter((object) => object?.kind === 'AccessPolicy'),
  { trustDomain: source.svid().id.trustDomain },
);
// A policy with problems denies; better to say so now than to wonder later.
for (const { ref, problems = [] } of policies.policies) {
  for (const { field, message } of problems) say('problem', { policy: ref.name, field, message });
}

const payments = new Map([['1', { id: '1', amount: 100 }]]);
const target = {
  namespace: 'payments',
  name: 'payment-service',
  serviceAccount: 'payment-service',
  labels: { app: 'payment-service', tier: 'backend' },
  namespaceLabels: { team: 'payments' },
};

const server = createMtlsServer(
  source,
  httpAuthorizer(policies, target),
  (request, response, { peer, decision }) => {
    const id = new URL(request.url, 'https://payment-service').pathname.split('/')[3];
    if (request.method === 'POST') payments.set('2', { id: '2', amount: 42 });
    if (request.method === 'DELETE') payments.delete(id);
    response.setHeader('content-type', 'application/json');
    response.end(
      JSON.stringify({ caller: peer.uri, reason: decision.reason, payments: [...payments.values()] }),
    );
  },
  {
    // The demo shows why; a real service would keep the reason in its own log.
    explain: true,
    onRefused: (error) => say('refused', { code: error.code, message: error.message }),
  },
);
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () =>
  say('listening', { port: server.address().port }),
);

process.on('SIGTERM', () => {
  server.close();
  server.closeAllConnections();
  source.close();
});
