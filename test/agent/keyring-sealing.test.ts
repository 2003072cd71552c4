import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { decodeNodeCache } from '../../src/agent/cache/node-cache.ts'
import { KernelKeys, KernelKeysRefused } from '../../src/agent/sealing/kernel-keys.ts'
import { keyringSealingPlugin } from '../../src/agent/sealing/keyring-sealing-plugin.ts'
import { sealBytes } from '../../src/agent/sealing/seal-bytes.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { firstOf } from '../../src/runtime/first-of.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { securityHeader } from '../fakes/agent.ts'
import { eventually } from '../fakes/eventually.ts'
import { startAgent, startServer, type RunningAgent } from '../fakes/processes.ts'

const mark = 'assay agent cache 1\n'
const sources = join(import.meta.dirname, '../../src/agent/sealing')
/** A user that runs nothing else. */
const stranger = 54_321
const skip = whyNot()

function whyNot (): string | false {
  try {
    return new KernelKeys().read('assay:test', 1) === undefined ? false : 'a key of an earlier run is left: assay:test'
  } catch (error) {
    if (error instanceof KernelKeysRefused) return `no keyring can be had here: ${error.message}`
    throw error
  }
}

const start = (dataDir: string) => keyringSealingPlugin.start({}, { dataDir }, AbortSignal.timeout(60_000))

/** One that no other run of this test uses; its key goes with the test. */
function dataDirOf (t: Test): string {
  const dataDir = t.testdir({})
  t.teardown(() => { new KernelKeys().remove(`assay:agent-cache:${dataDir}`) })
  return dataDir
}

/** Runs a module in a process of its own. @returns what it printed */
async function run (lines: readonly string[], user?: number): Promise<string> {
  const node = [process.execPath, '--input-type=module-typescript', '-e', lines.join('\n')]
  const words = user === undefined ? node : ['setpriv', `--reuid=${user}`, `--regid=${user}`, '--clear-groups', ...node]
  return (await promisify(execFile)(words[0] as string, words.slice(1), { cwd: '/' })).stdout.trim()
}

const imports = `
  import { keyringSealingPlugin } from ${JSON.stringify(join(sources, 'keyring-sealing-plugin.ts'))}
  import { KernelKeys } from ${JSON.stringify(join(sources, 'kernel-keys.ts'))}
  const start = dataDir => keyringSealingPlugin.start({}, { dataDir }, AbortSignal.timeout(60_000))`

await t.test('what one process sealed the next one of the same user opens, and nothing of the key is on the disk', { skip }, async t => {
  const dataDir = dataDirOf(t)
  const sealed = await run([imports, `const sealing = await start(${JSON.stringify(dataDir)})`,
    'console.log(Buffer.from(await sealing.seal(Buffer.from("secret"), "cache")).toString("hex"))'])
  const bytes = Buffer.from(sealed, 'hex')
  const sealing = await start(dataDir)
  t.equal(Buffer.from(await sealing.open(bytes, 'cache')).toString(), 'secret')
  t.notOk(bytes.includes('secret'))
  await t.rejects(sealing.open(bytes, 'another context'), { code: 'cache_unusable' })
  await t.rejects(sealing.open(bytes.subarray(0, 20), 'cache'), { code: 'cache_unusable', message: /cut short/ })
  const elsewhere = dataDirOf(t)
  await t.rejects((await start(`${elsewhere}/other`)).open(bytes, 'cache'), { code: 'cache_unusable' }, 'another agent of the same user')
})

await t.test('when the kernel has forgotten the key, as after a restart of the machine, what it sealed is worthless', { skip }, async t => {
  const dataDir = dataDirOf(t)
  const sealed = await (await start(dataDir)).seal(Buffer.from('secret'), 'cache')
  new KernelKeys().remove(`assay:agent-cache:${dataDir}`)
  const after = await start(dataDir)
  await t.rejects(after.open(sealed, 'cache'), { code: 'cache_unusable', message: /the machine was restarted/ })
  const anew = await after.seal(Buffer.from('new'), 'cache')
  t.equal(Buffer.from(await after.open(anew, 'cache')).toString(), 'new', 'a new key is made')
  await t.rejects(after.open(sealed, 'cache'), { code: 'cache_unusable', message: /another key/ })
})

await t.test('a key of the wrong size is none', { skip }, async t => {
  const dataDir = dataDirOf(t)
  for (const size of [16, 33]) {
    const key = new Uint8Array(size)
    new KernelKeys().write(`assay:agent-cache:${dataDir}`, key)
    const sealed = sealBytes(new Uint8Array(32), Buffer.from('secret'), 'cache')
    await t.rejects((await start(dataDir)).open(sealed, 'cache'), { code: 'cache_unusable' }, `${size} bytes`)
  }
})

const notRoot = skip || (process.getuid?.() !== 0 && 'it takes root to be another user')

await t.test('another user has another keyring', { skip: notRoot }, async t => {
  const dataDir = dataDirOf(t)
  const sealed = Buffer.from(await (await start(dataDir)).seal(Buffer.from('secret'), 'cache')).toString('hex')
  const said = await run([imports, `const sealing = await start(${JSON.stringify(dataDir)})`,
    `await sealing.open(Buffer.from("${sealed}", "hex"), "cache").catch(error => console.log(error.code))`], stranger)
  t.equal(said, 'cache_unusable')
})

await t.test('a kernel that takes no more keys is said clearly', { skip: notRoot }, async t => {
  const said = await run([imports, `
    const keys = new KernelKeys()
    const made = []
    try {
      for (let n = 0; n < 5_000; n++) { keys.write('assay:test:' + n, new Uint8Array(1)); made.push(n) }
    } catch {}
    try {
      await (await start('/nowhere')).seal(new Uint8Array(1), 'cache')
    } catch (error) {
      console.log(error.code, error.message)
    } finally {
      for (const n of made) keys.remove('assay:test:' + n)
      keys.remove('assay:agent-cache:/nowhere')
    }`], stranger)
  t.match(said, /^keyring_unusable add_key: error 122, this user has too many keys/)
})

t.test('its configuration', async t => {
  const parse = (raw: unknown) => keyringSealingPlugin.config.safeParse(raw).success
  t.ok(parse({}) && parse({ description: 'assay:node-1' }))
  for (const wrong of [{ description: '' }, { description: 'two words' }, { description: 'x'.repeat(256) }, { key_path: '/x' }]) {
    t.notOk(parse(wrong), JSON.stringify(wrong).slice(0, 40))
  }
  t.end()
})

await t.test('an agent that is killed while no server is there serves again what it kept', { skip, timeout: 120_000 }, async t => {
  await using server = await startServer()
  const plugins = { Sealing: [{ keyring: { plugin_data: {} } }] }
  await using agent = await startAgent({ server, plugins })
  t.teardown(() => { new KernelKeys().remove(`assay:agent-cache:${agent.dataDir}`) })
  await using admin = openUnixChannel(server.adminSocket)
  await admin.client(entryService).batchCreateEntry({ entries: [{
    spiffeId: { trustDomain: 'example.org', path: '/web' },
    parentId: { trustDomain: 'example.org', path: agent.id.replace('spiffe://example.org', '') },
    selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }]
  }] })
  let before: string | undefined
  await eventually('the agent serves', async () => (before = await svidOf(agent)) !== undefined, 60_000)
  const sealing = await start(agent.dataDir)
  await eventually('the SVID is kept', async () => {
    const bytes = await readFile(join(agent.dataDir, 'agent-cache')).catch(() => undefined)
    if (bytes === undefined) return false
    return decodeNodeCache(await sealing.open(bytes.subarray(mark.length), `${mark}example.org`)).svids.length === 1
  }, 60_000)
  t.notOk(existsSync(join(agent.dataDir, 'agent-cache.key')), 'no key lies on the disk')
  await server.kill9()
  await agent.kill9()
  await using again = await startAgent({ server, folder: agent.folder, plugins })
  t.equal(await svidOf(again), before)
})

/** The certificate of what a workload is given, in hex. */
async function svidOf ({ socket }: RunningAgent): Promise<string | undefined> {
  await using channel = openUnixChannel(socket)
  try {
    const answer = await firstOf(channel.client(workloadService).fetchX509SVID({}, { ...securityHeader, timeoutMs: 30_000 }))
    return answer?.svids.map(({ x509Svid }) => Buffer.from(x509Svid).toString('hex')).join()
  } catch {
    return undefined
  }
}
