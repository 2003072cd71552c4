// Opens connections and keeps them, or serves those of others; told what to do by lines on its standard input. What TCP carries comes back.
// usage: held-connections.mjs [<folder with svid.pem, key.pem and ca.pem>]
import { readFileSync } from 'node:fs'
import { connect as connectH2, createServer } from 'node:http2'
import { connect as connectTcp } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { connect as connectTls } from 'node:tls'

const [folder] = process.argv.slice(2)
const file = name => readFileSync(join(folder, name))
const identity = folder === undefined ? undefined
  : { cert: file('svid.pem'), key: file('key.pem'), ca: file('ca.pem'), minVersion: 'TLSv1.3', checkServerIdentity: () => undefined }
const held = new Map()
const patience = 30_000

/** A promise that fails with the connection, or when nothing comes. */
async function within (connection, make) {
  const { promise, resolve, reject } = Promise.withResolvers()
  const timer = setTimeout(() => reject(new Error('timeout')), patience)
  const closed = () => reject(new Error('closed'))
  connection.once('close', closed)
  make(resolve, reject)
  try {
    return await promise
  } finally {
    clearTimeout(timer)
    connection.off('close', closed)
  }
}

function keep (name, connection, more = {}) {
  const one = { connection, closed: false, ...more }
  held.set(name, one)
  connection.on('error', () => {}).on('close', () => { one.closed = true })
  return one
}

/** Until the stream has brought the text; what comes later is for the next who asks. */
function brings (one, stream, text) {
  return within(stream, resolve => {
    const look = () => { if (one.text.includes(text)) { one.text = ''; stream.off('data', look); resolve() } }
    stream.on('data', look)
    look()
  })
}

const tasks = {
  async serve ({ port }) {
    const server = createServer()
    server.on('stream', (stream, headers) => {
      stream.on('error', () => {}).respond({ ':status': 200 })
      if (headers[':method'] === 'POST') stream.pipe(stream)
      else stream.end(headers[':path'])
    })
    await new Promise(resolve => server.listen(port, resolve))
  },
  async tcp ({ name, host, port }) {
    const socket = identity === undefined ? connectTcp({ host, port }) : connectTls({ host, port, ...identity })
    const one = keep(name, socket, { text: '' })
    socket.setNoDelay().setEncoding('utf8').on('data', text => { one.text += text })
    await within(socket, resolve => socket.once(identity === undefined ? 'connect' : 'secureConnect', resolve))
    await tasks.say({ name, text: 'hello' })
  },
  async say ({ name, text }) {
    const one = held.get(name)
    if (one.closed) throw new Error('closed')
    one.connection.write(text)
    await brings(one, one.connection, text)
  },
  async h2 ({ name, host, port }) {
    const session = connectH2(identity === undefined ? `http://${host}:${port}` : `https://${host}:${port}`, identity)
    keep(name, session)
    await within(session, resolve => session.once('connect', resolve))
  },
  async ask ({ name, path }) {
    const { connection, closed } = held.get(name)
    if (closed || connection.closed) throw new Error('closed')
    const stream = connection.request({ ':path': path })
    return await within(stream, (resolve, reject) => {
      stream.once('response', headers => resolve(headers[':status'])).once('error', reject).resume()
    })
  },
  /** A request that goes on. */
  async stream ({ name, on, path }) {
    const stream = held.get(on).connection.request({ ':path': path, ':method': 'POST' })
    const one = keep(name, stream, { text: '' })
    stream.setEncoding('utf8').on('data', text => { one.text += text })
    await tasks.say({ name, text: 'hello' })
  },
  async ended ({ name }) {
    const { connection, closed } = held.get(name)
    if (!closed) await new Promise(resolve => connection.once('close', resolve))
  },
  async lives ({ name }) {
    const { connection, closed } = held.get(name)
    return !closed && connection.closed !== true
  }
}

const write = value => process.stdout.write(`${JSON.stringify(value)}\n`)
createInterface({ input: process.stdin }).on('close', () => process.exit()).on('line', line => {
  const { id, task, ...about } = JSON.parse(line)
  tasks[task](about).then(result => write({ id, result }), error => write({ id, error: error.code ?? error.message }))
})
