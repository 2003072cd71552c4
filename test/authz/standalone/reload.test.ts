import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { structToJson } from '../../../src/wire/struct-json.ts'
import { readPolicies } from '../../../src/authz/policy/read-policies.ts'
import { serveAuthz } from '../../../src/authz/standalone/serve-authz.ts'
import { decodeMessage } from '../../../src/wire/decode-message.ts'
import { encodeMessage } from '../../../src/wire/encode-message.ts'
import { CheckRequest, CheckResponse } from '../../../src/wire/generated/envoy-authorization.ts'
import { capturedLog } from '../../fakes/captured-log.ts'
import { ManualClock } from '../../fakes/clock.ts'
import { until } from '../../fakes/envoy.ts'
import { eventually } from '../../fakes/eventually.ts'

/** The same verdict of each, by rules of other names, and other rules to deny. */
const policies = (name: string) => `apiVersion: assay/v1
kind: Policy
name: ${name}
rules:
- { name: read, action: allow, to: [{ paths: [/both/*, /${name}/*] }] }
- { name: no, action: deny, to: [{ paths: [/both/no] }] }
`
const names = ['one', 'two'] as const

t.test('policies that change under load: each request is answered, and by one revision', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'authz-reload-'))
  const [file, path] = [join(folder, 'policies.yaml'), join(folder, 'ext-authz.sock')]
  const revisions = new Map<string, string>(names.map(name => [readPolicies([{ name: file, text: policies(name) }]).revision, name]))
  const write = (text: string) => {
    writeFileSync(`${file}.new`, text)
    renameSync(`${file}.new`, file)
  }
  write(policies('one'))
  const clock = new ManualClock()
  const stop = new AbortController()
  const { log, lines } = capturedLog()
  let ready = false
  const serving = serveAuthz({ policies: [file], extAuthz: [{ kind: 'unix', path }], extAuthzHttp: [], dataApi: [], dryRun: false },
    { log, clock, onReady: () => { ready = true } }, stop.signal)
  await Promise.race([until('the listener', () => ready), serving])
  const session = connectHttp2('http://x', { createConnection: () => connect(path) })
  t.teardown(async () => {
    session.destroy()
    stop.abort()
    await serving.catch(() => {})
    rmSync(folder, { recursive: true })
  })

  const seen = new Map<string, number>()
  const wrong: unknown[] = []
  const one = async (target: string) => {
    const told = await check(session, target)
    const name = revisions.get(String(told['revision'])) ?? 'none'
    const expected = target === '/both/no' ? { allowed: false, rule: `${name}/no` }
      : target === '/both/yes' || target === `/${name}/x` ? { allowed: true, rule: `${name}/read` } : { allowed: false, rule: undefined }
    if (told['allowed'] !== expected.allowed || told['rule'] !== expected.rule) wrong.push({ target, told })
    seen.set(name, (seen.get(name) ?? 0) + 1)
  }
  const targets = ['/both/yes', '/both/no', '/one/x', '/two/x']
  let asked = 0
  const noticed = () => lines.filter(({ msg }) => /^policies (taken over|refused)/.test(String(msg))).length
  for (let turn = 1; turn <= 40; turn++) {
    const burst = () => { asked += 20; return Array.from({ length: 20 }, (_, i) => one(targets[i % 4] as string)) }
    const before = burst()
    const known = noticed()
    // One that is broken, in between, is as if it had never been.
    write(turn % 10 === 0 ? 'kind: Nonsense' : policies(names[turn % 2] as string))
    const during = burst()
    await eventually('the change is noticed', async () => {
      await clock.advance(500)
      return noticed() > known
    })
    await Promise.all([...before, ...during, ...burst()])
  }
  t.strictSame(wrong, [])
  t.equal([...seen.values()].reduce((sum, count) => sum + count, 0), asked, 'none was dropped')
  t.ok((seen.get('one') ?? 0) > 400 && (seen.get('two') ?? 0) > 400, `${JSON.stringify([...seen])} answered by each`)
  t.equal(lines.filter(({ msg }) => msg === 'policies refused: the last good ones go on').length, 4)
})

/** @returns what the answer tells Envoy about the decision */
async function check (session: ClientHttp2Session, path: string): Promise<Readonly<Record<string, unknown>>> {
  const message = encodeMessage(CheckRequest, { attributes: { request: { http: { method: 'GET', path, host: 'db' } } } })
  const head = Buffer.from([0, 0, 0, 0, 0])
  head.writeUInt32BE(message.length, 1)
  const call = session.request({
    ':method': 'POST', ':path': '/envoy.service.auth.v3.Authorization/Check', 'content-type': 'application/grpc', te: 'trailers'
  })
  call.end(Buffer.concat([head, message]))
  const chunks: Buffer[] = []
  for await (const chunk of call as AsyncIterable<Buffer>) chunks.push(chunk)
  return structToJson(decodeMessage(CheckResponse, Buffer.concat(chunks).subarray(5)).dynamicMetadata)
}
