// Opens one HBONE tunnel with a given SVID and says what came of it.
// usage: hbone-client.mjs <host> <authority> <folder with svid.pem, key.pem, ca.pem>
import { readFileSync } from 'node:fs'
import { connect } from 'node:http2'
import { join } from 'node:path'

const [host, authority, folder] = process.argv.slice(2)
const file = name => readFileSync(join(folder, name))
const say = result => {
  process.stdout.write(JSON.stringify(result))
  process.exit(0)
}
const session = connect(`https://${host}:15008`, {
  cert: file('svid.pem'), key: file('key.pem'), ca: file('ca.pem'), checkServerIdentity: () => undefined, minVersion: 'TLSv1.3'
})
session.on('error', error => say({ error: error.code ?? error.message }))
session.on('goaway', () => say({ error: 'goaway' }))
session.on('close', () => say({ error: 'closed' }))
const stream = session.request({ ':method': 'CONNECT', ':authority': authority })
let body = ''
stream.setEncoding('utf8')
stream.on('response', headers => {
  const status = headers[':status']
  if (status !== 200) say({ status })
  stream.write('hello')
  stream.on('data', text => {
    body += text
    if (body.endsWith('hello')) say({ status, body })
  })
})
stream.on('error', error => say({ error: error.code ?? error.message }))
setTimeout(() => say({ error: 'timeout' }), 30_000)
