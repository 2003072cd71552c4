// A workload in a namespace: serves HTTP that answers who it is and what it was told of its caller, echoes TCP, and calls others when told
// to by a line on its standard input. Plain sockets, no identity of its own.
import { Agent, createServer as createHttp, get } from 'node:http'
import { connect, createServer } from 'node:net'
import { createInterface } from 'node:readline'

const [name, httpPort, tcpPort] = process.argv.slice(2)
const served = new WeakSet()
/** Milliseconds in which a machine may stand still. */
const patience = 30_000
const http = createHttp((request, response) => {
  const { headers, method, url, socket } = request
  // As a server does that was just about to end a connection on which nothing had come for a while.
  if (url === '/forgets' && served.has(socket)) {
    socket.destroy()
    return
  }
  served.add(socket)
  const xfcc = headers['x-forwarded-client-cert'] ?? null
  response.end(JSON.stringify({ name, method, url, xfcc, from: socket.remoteAddress, host: headers.host,
    traceparent: headers.traceparent ?? null, tracestate: headers.tracestate ?? null }))
})
const tcp = createServer(socket => {
  socket.on('error', () => {})
  socket.write(`${name} `)
  socket.pipe(socket)
})
await Promise.all([[http, httpPort], [tcp, tcpPort]].map(([server, port]) =>
  new Promise(resolve => server.listen(Number(port), resolve))))

const say = value => process.stdout.write(`${JSON.stringify(value)}\n`)
say({ ready: name })
// Whoever started it may be killed; nothing is left behind then.
createInterface({ input: process.stdin }).on('close', () => process.exit()).on('line', line => {
  const { id, kind, host, port, method, path = '/', headers = {}, localPort } = JSON.parse(line)
  const done = result => say({ id, ...result })
  if (kind === 'http') {
    const agent = localPort === undefined ? false : new Agent({ keepAlive: true })
    const request = get({ host, port, method, path, headers, localPort, agent, timeout: patience }, response => {
      const { socket } = response
      let body = ''
      response.setEncoding('utf8').on('data', text => { body += text })
        // The port must be free at once for whoever wants it next.
        .on('end', () => { if (localPort !== undefined) socket.resetAndDestroy() })
        .on('end', () => done({ status: response.statusCode, body, headers: response.headers }))
        .on('error', error => done({ error: error.code ?? error.message }))
    })
    request.on('timeout', () => request.destroy(new Error('timeout'))).on('error', error => done({ error: error.code ?? error.message }))
  } else {
    let body = ''
    const socket = connect({ host, port })
    socket.setTimeout(patience, () => socket.destroy(new Error('timeout')))
    socket.on('connect', () => socket.write('hello')).setEncoding('utf8')
    socket.on('data', text => {
      body += text
      if (body.endsWith('hello')) socket.end()
    })
    socket.on('error', error => { body = ''; done({ error: error.code ?? error.message }); socket.removeAllListeners('close') })
    socket.on('close', () => done({ body }))
  }
})
