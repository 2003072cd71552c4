import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type IncomingMessage, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { serveAuthz } from '../../../src/authz/standalone/serve-authz.ts'
import { systemClock } from '../../../src/runtime/clock.ts'
import { capturedLog } from '../../fakes/captured-log.ts'
import { until } from '../../fakes/envoy.ts'
import { buildOpa, withoutGo } from '../rego/real-opa.ts'

interface Answer { readonly status: number | undefined, readonly body: Readonly<Record<string, unknown>> }

async function ask (socketPath: string, method: string, path: string, body: string): Promise<Answer> {
  const sent = request({ socketPath, method, path, headers: { 'content-type': 'application/json' } })
  sent.end(body)
  const [response] = await once(sent, 'response') as [IncomingMessage]
  return { status: response.statusCode, body: JSON.parse(await text(response) || '{}') as Answer['body'] }
}

const http = (method: string, path: string) => ({ request: { http: { method, path } } })
const web = {
  attributes: { source: { principal: 'spiffe://example.org/web' }, ...http('GET', '/items/7') }, parsed_path: ['items', '7'], parsed_query: {}
}
const nobody = { attributes: http('GET', '/items/7'), parsed_path: ['items', '7'], parsed_query: {} }
const hidden = { ...web, attributes: { ...web.attributes, ...http('PUT', '/hidden/a') }, parsed_path: ['hidden', 'a'] }
const at = '/v1/data/envoy/authz/decision'
const input = (value: unknown) => JSON.stringify({ input: value })

/** Method, path and query, body. */
const questions: ReadonlyArray<readonly [string, string, string]> = [
  ['POST', at, input(web)], ['POST', at, input(nobody)], ['POST', at, input(hidden)], ['POST', at, input({})], ['POST', at, input(null)],
  ['POST', at, '{}'], ['POST', at, ''], ['POST', at, input('text')], ['POST', at, input([1, 2.5, 1e3, 'é\u2028'])],
  ['POST', `${at}/allowed`, input(web)], ['POST', `${at}/headers/x-team`, input(web)],
  ['POST', `${at}/request_headers_to_remove/0`, input(web)], ['POST', '/v1/data/envoy/other', input(web)],
  ['POST', '/v1/data/nothing/at/all', input(web)],
  ['POST', `${at}?pretty=true`, input(web)], ['POST', `${at}?metrics=false`, input(web)],
  ['GET', at, ''], ['GET', `${at}?input=${encodeURIComponent(JSON.stringify(web))}`, ''],
  ['GET', `${at}/body?input=${encodeURIComponent('{}')}`, ''],
  ['POST', at, '{'], ['POST', at, '[]'], ['POST', at, '"x"'], ['POST', at, '{"input": }'], ['GET', `${at}?input=%7B`, ''],
  ['GET', '/health', '']
]

/** Where OPA knows from its types that there can be nothing it answers 500, and 301 for a slash at the end. */
const otherwise: Readonly<Record<string, number>> = {
  [`${at}/request_headers_to_remove/1`]: 500, [`${at}/nothing`]: 500, [`${at}/allowed/deeper`]: 500, [`${at}/`]: 301
}

t.test('OPA\'s questions are answered as OPA answers them', { skip: withoutGo, timeout: 300_000 }, async t => {
  const folder = mkdtempSync(join(tmpdir(), 'data-api-'))
  const bundle = join(import.meta.dirname, '../rego/documented/bundle.tar.gz')
  const [ours, theirs] = [join(folder, 'ours.sock'), join(folder, 'opa.sock')]
  writeFileSync(join(folder, 'policies'), 'apiVersion: assay/v1\nkind: Policy\nname: p\nrules: [{ name: all, action: allow }]\n')
  const stop = new AbortController()
  const { log } = capturedLog()
  const serving = serveAuthz({
    policies: [join(folder, 'policies')], extAuthz: [], extAuthzHttp: [], dataApi: [{ kind: 'unix', path: ours }], dryRun: false,
    rego: { sources: { documented: bundle }, entrypoints: [] }
  }, { log, clock: systemClock }, stop.signal)
  // This OPA runs no WebAssembly: it gets what the bundle was built from.
  const sources = ['policy.rego', 'teams:teams/data.json']
  const words = ['run', '--server', '--skip-version-check', '--log-level', 'error', '--addr', `unix://${theirs}`, ...sources]
  const opa = spawn(await buildOpa(), words, { stdio: 'ignore', cwd: join(bundle, '..') })
  t.teardown(async () => {
    stop.abort()
    await serving.catch(() => {})
    opa.kill('SIGKILL')
    await once(opa, 'exit')
    rmSync(folder, { recursive: true })
  })
  for (const [name, socket] of Object.entries({ ours, theirs })) {
    const healthy = async () => (await ask(socket, 'GET', '/health', '').catch(() => undefined))?.status === 200
    await Promise.race([until(`${name} to be healthy`, healthy), serving])
  }
  let results = 0
  for (const [i, [method, path, body]] of questions.entries()) {
    const [mine, its] = [await ask(ours, method, path, body), await ask(theirs, method, path, body)]
    const short = ({ status, body: { result, code } }: Answer) => ({ status, result, code })
    t.same(short(mine), short(its), `question ${i}: ${method} ${path}`)
    if (its.body['result'] !== undefined) results++
  }
  for (const [path, status] of Object.entries(otherwise)) {
    t.strictSame([await ask(ours, 'POST', path, input(web)), await ask(theirs, 'POST', path, input(web))].map(answer => answer.status),
      [200, status], `${path} differs`)
  }
  t.ok(results > 15, `${results} of ${questions.length} have a result`)
})
