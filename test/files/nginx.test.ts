import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import t from 'tap'
import { encodePem } from '../../src/x509/pem.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { FakeAgent } from './fake-agent.ts'
import { sameSerial, serialOf } from '../fakes/serial.ts'
import { FilesFolder } from './files-process.ts'
import { Knocking } from './knocking.ts'

const program = ['/usr/sbin/nginx', '/usr/local/sbin/nginx', '/usr/bin/nginx'].find(path => existsSync(path))
const missing = program === undefined && 'nginx is not installed: apt install nginx'
const rotations = 4

/** It shows its SVID, and wants one of whoever calls. */
function configuration (home: string, port: number, { svid, key, bundle }: FilesFolder): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(what => `${what}_temp_path ${join(home, what)};`).join('\n')
  return `
    daemon off;
    worker_processes 2;
    pid ${join(home, 'nginx.pid')};
    error_log ${join(home, 'error.log')};
    events { worker_connections 256; }
    http {
      access_log off;
      ${temporary}
      server {
        listen 127.0.0.1:${port} ssl;
        ssl_certificate ${svid};
        ssl_certificate_key ${key};
        ssl_client_certificate ${bundle};
        ssl_verify_client on;
        location / { return 200 "hello $ssl_client_verify"; }
      }
    }
  `
}

void t.test('nginx serves each new SVID, and no request fails meanwhile', { skip: missing }, async t => {
  await using agent = await FakeAgent.start()
  const first = await agent.rotate()
  const files = new FilesFolder(t, agent)
  await files.fetch()
  const port = await freePort()
  const config = join(files.home, 'nginx.conf')
  writeFileSync(config, configuration(files.home, port, files))
  const check = spawnSync(program as string, ['-t', '-c', config, '-p', files.home], { encoding: 'utf8' })
  t.equal(check.status, 0, check.stderr)
  const nginx = spawn(program as string, ['-c', config, '-p', files.home], { stdio: 'ignore' })
  const exited = once(nginx, 'exit')
  t.teardown(async () => { nginx.kill('SIGTERM'); await exited })
  const errors = () => existsSync(join(files.home, 'error.log')) ? readFileSync(join(files.home, 'error.log'), 'utf8') : ''

  const caller = await agent.domain.issue('/caller')
  const identity = {
    ca: encodePem('CERTIFICATE', agent.domain.root), checkServerIdentity: () => undefined,
    cert: encodePem('CERTIFICATE', caller.chain[0] as Uint8Array), key: encodePem('PRIVATE KEY', caller.privateKey)
  }
  const knock = () => new Promise<string>((resolve, reject) => {
    request({ host: '127.0.0.1', port, agent: false, ...identity }, response => {
      const serial = (response.socket as TLSSocket).getPeerCertificate().serialNumber
      let body = ''
      response.setEncoding('utf8').on('data', (text: string) => { body += text }).on('error', reject).on('end', () => {
        if (response.statusCode === 200 && body === 'hello SUCCESS') resolve(serial)
        else reject(new Error(`status ${response.statusCode}: ${body}`))
      })
    }).on('error', reject).end()
  })
  await eventually(() => `nginx serves: ${errors()}`, () => knock().then(() => true, () => false), 60_000)

  const running = files.start(t, {
    pid_file_name: join(files.home, 'nginx.pid'), pid_program: program, renew_signal: 'SIGHUP',
    serves: { address: `127.0.0.1:${port}`, within: '60s' }
  })
  await running.said('the program serves the new certificate', serialOf(first))
  const knocking = new Knocking(3, knock)
  const isShown = (serial: string) =>
    eventually(`a client is shown ${serial}`, () => knocking.serials.some(seen => sameSerial(seen, serial)), 60_000)
  await isShown(serialOf(first))
  let last = first
  for (let rotation = 0; rotation < rotations; rotation++) {
    last = await agent.rotate()
    await running.said('the program serves the new certificate', serialOf(last))
    await isShown(serialOf(last))
  }
  await knocking.end()
  t.same(knocking.failures, [], `no handshake and no request of ${knocking.served} failed; ${errors()}`)
  t.ok(knocking.served > rotations)
  t.equal(knocking.serials.length, rotations + 1, 'each SVID was served in its time')
  t.ok(sameSerial(await knock(), serialOf(last)))
  t.equal(await running.stop(), 0)
})
