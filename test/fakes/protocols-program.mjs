// A workload in a namespace that speaks what is more than a request and an answer: HTTP/2 without TLS, gRPC in four kinds, WebSocket.
//   serve WEB_PORT GRPC_PORT            until its standard input ends
//   call h2|grpc|websocket HOST PORT    prints one JSON line
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect } from 'node:http2'
import { Client, credentials, Server, ServerCredentials, status } from '@grpc/grpc-js'

const [mode, ...words] = process.argv.slice(2)
const bytes = value => value
const method = (name, requestStream, responseStream) => ({
  path: `/lab.Echo/${name}`, requestStream, responseStream,
  requestSerialize: bytes, requestDeserialize: bytes, responseSerialize: bytes, responseDeserialize: bytes
})
const methods = {
  unary: method('unary', false, false), upload: method('upload', true, false), download: method('download', false, true),
  chat: method('chat', true, true), refuse: method('refuse', false, false)
}

if (mode === 'serve') {
  await Promise.all([serveWebSocket(Number(words[0])), serveGrpc(words[1])])
  process.stdout.write('ready\n')
  process.stdin.resume().on('end', () => process.exit())
} else {
  const [kind, host, port] = words
  const calls = { h2: callHttp2, grpc: callGrpc, websocket: callWebSocket }
  const timer = setTimeout(() => { throw new Error(`${kind}: no answer`) }, 15_000)
  const answer = await calls[kind](host, port).catch(error => ({ error: error.details ?? error.message }))
  clearTimeout(timer)
  process.stdout.write(`${JSON.stringify(answer)}\n`, () => process.exit())
}

/** Echoes text frames of less than 126 bytes, and says whom the proxy told of. */
async function serveWebSocket (port) {
  const server = createServer((_request, response) => response.end('plain'))
  server.on('upgrade', (request, socket) => {
    const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: ${accept}\r\n\r\n`)
    const frame = text => socket.write(Buffer.concat([Buffer.of(0x81, text.length), Buffer.from(text)]))
    frame(String(request.headers['x-forwarded-client-cert']))
    socket.on('error', () => {}).on('data', data => {
      const isText = (data[0] & 0x0f) === 1
      if (!isText) {
        socket.end()
        return
      }
      const length = data[1] & 0x7f
      const mask = data.subarray(2, 6)
      frame(Buffer.from(data.subarray(6, 6 + length).map((byte, at) => byte ^ mask[at % 4])).toString())
    })
  })
  server.listen(port)
  await once(server, 'listening')
}

async function callWebSocket (host, port) {
  const socket = new WebSocket(`ws://${host}:${port}/chat`)
  const texts = []
  await new Promise((resolve, reject) => {
    socket.addEventListener('error', () => reject(new Error('websocket failed')))
    socket.addEventListener('message', ({ data }) => {
      texts.push(data)
      if (texts.length < 4) socket.send(`message ${texts.length}`)
      else resolve()
    })
  })
  return { texts }
}

async function serveGrpc (port) {
  const server = new Server()
  const peer = call => String(call.metadata.get('x-forwarded-client-cert')[0])
  server.addService(methods, {
    unary: (call, done) => done(null, Buffer.from(`${call.request} ${peer(call)}`)),
    upload: (call, done) => {
      const parts = []
      call.on('data', part => parts.push(part.length)).on('end', () => done(null, Buffer.from(String(parts.reduce((a, b) => a + b, 0)))))
    },
    download: call => {
      for (let n = 0; n < 50; n++) call.write(Buffer.alloc(10_000, n))
      call.end()
    },
    chat: call => { call.on('data', part => call.write(part)).on('end', () => call.end()) },
    refuse: (_call, done) => done({ code: status.FAILED_PRECONDITION, details: 'not today' })
  })
  await new Promise((resolve, reject) => {
    server.bindAsync(`0.0.0.0:${port}`, ServerCredentials.createInsecure(), error => error === null ? resolve() : reject(error))
  })
}

async function callGrpc (host, port) {
  const client = new Client(`${host}:${port}`, credentials.createInsecure())
  const unary = name => new Promise((resolve, reject) => {
    client.makeUnaryRequest(methods[name].path, bytes, bytes, Buffer.from('hello'), (error, value) => {
      if (error) reject(error)
      else resolve(value)
    })
  })
  const answer = { unary: String(await unary('unary')), refused: await unary('refuse').catch(({ code, details }) => ({ code, details })) }
  answer.uploaded = await new Promise((resolve, reject) => {
    const call = client.makeClientStreamRequest(methods.upload.path, bytes, bytes, (error, value) => {
      if (error) reject(error)
      else resolve(Number(value))
    })
    for (let n = 0; n < 50; n++) call.write(Buffer.alloc(10_000))
    call.end()
  })
  answer.downloaded = 0
  const download = client.makeServerStreamRequest(methods.download.path, bytes, bytes, Buffer.of())
  for await (const part of download) answer.downloaded += part.length
  const chat = client.makeBidiStreamRequest(methods.chat.path, bytes, bytes)
  answer.chat = []
  chat.write(Buffer.from('1'))
  for await (const part of chat) {
    answer.chat.push(String(part))
    // Each word is sent only once the last has come back: nothing is kept on the way.
    if (answer.chat.length < 5) chat.write(Buffer.from(String(answer.chat.length + 1)))
    else chat.end()
  }
  client.close()
  return answer
}

async function callHttp2 (host, port) {
  const session = connect(`http://${host}:${port}`)
  const request = session.request({ ':path': '/lab.Echo/none', 'content-type': 'application/grpc', te: 'trailers' })
  request.end()
  const [headers] = await once(request, 'response')
  session.destroy()
  return { status: headers[':status'], grpcStatus: headers['grpc-status'] }
}
