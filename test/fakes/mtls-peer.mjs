// Somebody outside the mesh who speaks mTLS with an SVID. The folder holds svid.pem, key.pem and ca.pem.
// usage: mtls-peer.mjs call <host> <port> <folder> | listen <host> <port> <ms> <folder> |
//   hold <host> <port> <count> <ms> <folder> | serve <port> <folder>
import { readFileSync } from 'node:fs'
import { createServer, request } from 'node:https'
import { join } from 'node:path'
import { connect } from 'node:tls'

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
  const options = { host, port, ...identity, checkServerIdentity: () => undefined, agent: false, timeout: 30_000 }
  request(options, response => {
    let body = ''
    response.setEncoding('utf8').on('data', text => { body += text }).on('end', () => say({ status: response.statusCode, body }))
  }).on('error', error => say({ error: error.code ?? error.message })).on('timeout', () => say({ error: 'timeout' })).end()
} else if (mode === 'listen') {
  // Silent: says what the other end said by itself, until it ends or so long after that began to be possible.
  const [host, port, ms] = rest
  let heard = ''
  const socket = connect({ host, port, ...identity, checkServerIdentity: () => undefined }, () =>
    setTimeout(() => socket.destroy(), Number(ms)).unref())
  socket.setEncoding('utf8').on('data', text => { heard += text; socket.destroy() }).on('error', () => {})
  socket.on('close', () => process.stdout.write(JSON.stringify(heard)))
} else if (mode === 'hold') {
  // As many connections at once, on which nothing is done; says how many milliseconds each lived, and 0 of one whose handshake did not end.
  const [host, port, count, ms] = rest
  const lives = await Promise.all(Array.from({ length: Number(count) }, () => new Promise(resolve => {
    const began = performance.now()
    let secure = false
    const socket = connect({ host, port, ...identity, checkServerIdentity: () => undefined }, () => {
      secure = true
      socket.setTimeout(Number(ms), () => socket.destroy())
    })
    socket.on('error', () => {}).resume()
    socket.on('close', () => resolve(secure ? performance.now() - began : 0))
  })))
  process.stdout.write(JSON.stringify(lives))
} else {
  createServer({ ...identity, requestCert: true, rejectUnauthorized: true }, (incoming, response) => {
    response.end(JSON.stringify({ name: 'outside', peer: incoming.socket.getPeerCertificate().subjectaltname }))
  }).listen(Number(rest[0]), '0.0.0.0', () => process.stdout.write('ready\n'))
}
