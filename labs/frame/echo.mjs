// A workload that speaks plain HTTP: tells who called, as the proxy in front of it says.
// usage: node echo.mjs ADDRESS PORT NAME
import { createServer } from 'node:http'

const [address, port, name] = process.argv.slice(2)

createServer((request, response) => {
  const caller = /URI=([^;,]+)/.exec(request.headers['x-forwarded-client-cert'] ?? '')?.[1] ?? 'nobody that a proxy vouches for'
  response.end(`this is ${name}, called by ${caller}\n`)
}).listen(Number(port), address, () => { console.log('echo listens') })
