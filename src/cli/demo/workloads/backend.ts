// The server workload: plain HTTP, no certificate, no SPIFFE library. It knows its caller from the header its node's Envoy sets.
// usage: node backend.ts HOST PORT     ends when its standard input does
import { createServer } from 'node:http'

const [host, port] = process.argv.slice(2)
const server = createServer((request, response) => {
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify({ workload: 'backend', caller: request.headers['x-forwarded-client-cert'] ?? null }))
})
server.listen(Number(port), host, () => console.log('listening'))
process.stdin.resume().once('end', () => process.exit())
