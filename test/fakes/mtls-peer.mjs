// Somebody outside the mesh who speaks mTLS with an SVID. The folder holds svid.pem, key.pem and ca.pem.
// usage: mtls-peer.mjs call <host> <port> <folder> | mtls-peer.mjs serve <port> <folder>
import { readFileSync } from 'node:fs'
import { createServer, request } from 'node:https'
import { join } from 'node:path'

const [mode, ...rest] = process.argv.slice(2)
const folder = rest.at(-1)
const file = name => readFileSync(join(folder, name))
const identity = { cert: file('svid.pem'), key: file('key.pem'), ca: file('ca.pem'), minVersion: 'TLSv1.3' }

if (mode === 'call') {
  const [host, port] = rest
  const say = result => {
    process.stdout.write(JSON.stringify(result))
    process.exit(0)
  }
  const options = { host, port, ...identity, checkServerIdentity: () => undefined, agent: false, timeout: 8000 }
  request(options, response => {
    let body = ''
    response.setEncoding('utf8').on('data', text => { body += text }).on('end', () => say({ status: response.statusCode, body }))
  }).on('error', error => say({ error: error.code ?? error.message })).on('timeout', () => say({ error: 'timeout' })).end()
} else {
  createServer({ ...identity, requestCert: true, rejectUnauthorized: true }, (incoming, response) => {
    response.end(JSON.stringify({ name: 'outside', peer: incoming.socket.getPeerCertificate().subjectaltname }))
  }).listen(Number(rest[0]), '0.0.0.0', () => process.stdout.write('ready\n'))
}
