// Streams in a pod, with the clients and servers that people use: WebSocket, HTTP/2 in the clear, gRPC.
// usage: pod-streams.mjs serve <websocket port> <http2 port> <grpc port> | pod-streams.mjs websocket|http2|grpc <host> <port>
import { createHash } from 'node:crypto'
import { createServer } from 'node:http'
import { connect, createServer as createHttp2 } from 'node:http2'
import { Client, credentials, Metadata, Server, ServerCredentials, status } from '@grpc/grpc-js'

const [mode, ...rest] = process.argv.slice(2)
const say = value => process.stdout.write(`${JSON.stringify(value)}\n`)
const talk = { path: '/test.Echo/Talk', requestStream: true, responseStream: true }
const asIs = bytes => bytes
const xfccOf = headers => headers['x-forwarded-client-cert'] ?? null

/** Text of a frame of at most 125 bytes, whole (RFC 6455 §5.2). */
function readFrame (frame) {
  const [mask, text] = [frame.subarray(2, 6), frame.subarray(6, 6 + (frame[1] & 0x7f))]
  return Buffer.from(text.map((byte, index) => byte ^ mask[index % 4])).toString()
}

async function serve ([websocketPort, http2Port, grpcPort]) {
  const websocket = createServer().on('upgrade', ({ headers }, socket) => {
    const accept = createHash('sha1').update(`${headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`)
    socket.on('error', () => {}).on('data', frame => {
      if ((frame[0] & 0x0f) !== 1) {
        socket.end()
        return
      }
      const text = Buffer.from(JSON.stringify({ heard: readFrame(frame), xfcc: xfccOf(headers) }))
      socket.write(Buffer.concat([Buffer.from([0x81, text.length]), text]))
    })
  })
  const http2 = createHttp2((request, response) => {
    response.end(JSON.stringify({ version: request.httpVersion, method: request.method, xfcc: xfccOf(request.headers) }))
  })
  await Promise.all([[websocket, websocketPort], [http2, http2Port]].map(([server, port]) =>
    new Promise(resolve => server.listen(Number(port), resolve))))
  const grpc = new Server()
  const method = { ...talk, requestSerialize: asIs, requestDeserialize: asIs, responseSerialize: asIs, responseDeserialize: asIs }
  grpc.addService({ talk: method }, {
    talk (call) {
      const [xfcc = null] = call.metadata.get('x-forwarded-client-cert')
      call.on('data', bytes => call.write(Buffer.from(JSON.stringify({ heard: bytes.toString(), xfcc }))))
      call.on('end', () => { call.emit('error', { code: status.DATA_LOSS, details: 'as agreed' }) }).on('error', () => {})
    }
  })
  await new Promise((resolve, reject) => grpc.bindAsync(`0.0.0.0:${grpcPort}`, ServerCredentials.createInsecure(), error =>
    error === null ? resolve() : reject(error)))
  say('ready')
}

const calls = {
  websocket (host, port) {
    const heard = []
    const socket = new WebSocket(`ws://${host}:${port}/stream`)
    socket.addEventListener('open', () => socket.send('one'))
    socket.addEventListener('message', ({ data }) => {
      heard.push(JSON.parse(data))
      if (heard.length === 1) socket.send('two')
      else finish({ heard })
    })
    socket.addEventListener('error', () => finish({ heard, error: 'failed' }))
  },
  http2 (host, port) {
    const session = connect(`http://${host}:${port}`).on('error', error => finish({ error: error.message }))
    let [body, code] = ['', undefined]
    const request = session.request({ ':path': '/' }).setEncoding('utf8').on('error', error => finish({ error: error.message }))
    request.on('response', headers => { code = headers[':status'] }).on('data', text => { body += text })
      .on('end', () => finish({ status: code, body }))
  },
  grpc (host, port) {
    const heard = []
    const client = new Client(`${host}:${port}`, credentials.createInsecure())
    const call = client.makeBidiStreamRequest(talk.path, asIs, asIs, new Metadata(), { deadline: Date.now() + 8_000 })
    call.on('data', bytes => {
      heard.push(JSON.parse(bytes))
      if (heard.length === 1) call.write(Buffer.from('two'))
      else call.end()
    })
    call.on('error', ({ code, details }) => finish({ heard, code, details })).write(Buffer.from('one'))
  }
}

function finish (result) {
  say(result)
  process.exit()
}

if (mode === 'serve') await serve(rest)
else {
  setTimeout(() => finish({ error: 'timeout' }), 10_000).unref()
  calls[mode](...rest)
}
// Whoever started it may be killed; nothing is left behind then.
process.stdin.on('close', () => process.exit()).resume()
