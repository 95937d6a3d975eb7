/** Programs that say how they are, by HTTPS and by gRPC, and who has asked. */
import { encodePem } from '../../../src/identity/pki/pem.js';
import { exportPkcs8, generateKeyPair } from '../../../src/identity/pki/keys.js';
import { makeCertificate } from '../../support/certificates.js';

/** What both programs are made of: whether they are well is set, and who probed them last is told, at a port of their own. */
const control = (port: number): string => `
  import { createServer as createControl } from 'node:http';
  let well = true;
  let last = {};
  const probed = (socket, agent) => (last = { from: socket.remoteAddress, agent });
  createControl((request, response) => {
    if (request.url === '/sick') well = false;
    if (request.url === '/well') well = true;
    response.end(JSON.stringify(last));
  }).listen(${port}, '127.0.0.1');`;

/** At 8443, and its control at 8001. */
export async function httpsProgram(): Promise<string> {
  const pair = await generateKeyPair('ec-p256');
  const validity = { notBefore: Date.now() - 60_000, notAfter: Date.now() + 3_600_000 };
  // Nobody has signed it but itself.
  const { der } = makeCertificate({ subject: 'web', pair, dnsNames: ['web'], ...validity });
  const cert = encodePem('CERTIFICATE', der);
  const key = encodePem('PRIVATE KEY', exportPkcs8(pair.privateKey));
  return `${control(8001)}
  import { createServer } from 'node:https';
  createServer({ cert: ${JSON.stringify(cert)}, key: ${JSON.stringify(key)} }, (request, response) => {
    probed(request.socket, request.headers['user-agent']);
    response.statusCode = well && request.url === '/health' ? 200 : 500;
    response.end();
  }).listen(8443, '0.0.0.0');`;
}

/** At 9000, and its control at 8002: grpc.health.v1.Health for the service "items" alone; SERVING is 1, NOT_SERVING 2. */
export const grpcProgram = `${control(8002)}
  import { createServer } from 'node:http2';
  createServer().on('stream', (stream, headers) => {
    const parts = [];
    stream.on('data', (part) => parts.push(part)).on('error', () => undefined).on('end', () => {
      const known = Buffer.concat(parts).toString('latin1').endsWith('items');
      const isCheck = headers[':path'] === '/grpc.health.v1.Health/Check';
      probed(stream.session.socket, headers['user-agent']);
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': !isCheck ? '12' : known ? '0' : '5' }));
      stream.end(isCheck && known ? Buffer.from([0, 0, 0, 0, 2, 8, well ? 1 : 2]) : undefined);
    });
  }).listen(9000, '0.0.0.0');`;
