import t from 'tap'
import { z } from 'zod'
import { configurePlugins, startPlugins, type Catalog } from '../../src/plugins/catalog.ts'
import { parsePluginConfig } from '../../src/plugins/parse-plugin-config.ts'
import type { Plugin } from '../../src/plugins/plugin.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'

interface Started extends AsyncDisposable { readonly config: unknown }
interface Host { readonly events: string[] }
type Apis = { KeyManager: Started, WorkloadAttestor: Started }

function plugin (name: string, start?: () => Promise<void>): Plugin<Started, { path: string, limit: number }, Host> {
  return {
    name,
    parseConfig: raw => parsePluginConfig(z.strictObject({ path: z.string(), limit: z.int().default(0) }), raw),
    async start (config, { events }) {
      await start?.()
      events.push(`start ${name}`)
      return { config, [Symbol.asyncDispose]: async () => { events.push(`close ${name}`) } }
    }
  }
}

const failing = plugin('failing', async () => { throw new SpiffeError('file_unusable', 'no such file') })
const buggy = plugin('buggy', async () => { throw new TypeError('a bug') })
const catalog: Catalog<Apis, Host> = {
  KeyManager: [plugin('disk'), plugin('memory')],
  WorkloadAttestor: [plugin('unix'), plugin('k8s'), failing, buggy]
}
const data = { plugin_data: { path: '/x' } }
const signal = new AbortController().signal

function problemsOf (section: unknown): unknown {
  try {
    configurePlugins(catalog, section)
    return []
  } catch (error) {
    t.match(error, { code: 'config_invalid' })
    return (error as SpiffeError).message.split('\n')
  }
}

void t.test('starts in the configuration\'s order and closes in reverse', async t => {
  const host = { events: [] as string[] }
  const configured = configurePlugins(catalog, {
    WorkloadAttestor: { k8s: { plugin_data: { path: '/k', limit: 5 } }, unix: data },
    KeyManager: { memory: data }
  })
  t.strictSame(host.events, [], 'reading a configuration starts nothing')
  {
    await using started = await startPlugins(configured, host, signal)
    t.strictSame([...started.of('WorkloadAttestor').keys()], ['k8s', 'unix'])
    t.strictSame(started.of('WorkloadAttestor').get('k8s')?.config, { path: '/k', limit: 5 })
    t.strictSame(started.of('KeyManager').get('memory')?.config, { path: '/x', limit: 0 }, 'defaults are filled in')
  }
  t.strictSame(host.events, ['start k8s', 'start unix', 'start memory', 'close memory', 'close unix', 'close k8s'])
})

void t.test('a list of maps, as SPIRE\'s JSON has it', async t => {
  const configured = configurePlugins(catalog, { WorkloadAttestor: [{ unix: data }, { k8s: data }] })
  const started = await startPlugins(configured, { events: [] }, signal)
  t.strictSame([...started.of('WorkloadAttestor').keys()], ['unix', 'k8s'])
  t.equal(started.of('KeyManager').size, 0, 'a type that is not configured has none')
})

void t.test('nothing configured is nothing started', async t => {
  for (const section of [undefined, null, {}, { KeyManager: null }, { KeyManager: {} }, { KeyManager: [] }]) {
    const started = await startPlugins(configurePlugins(catalog, section), { events: [] }, signal)
    t.equal(started.of('KeyManager').size, 0)
  }
})

void t.test('refusals name the key', async t => {
  t.strictSame(problemsOf({ KeyManger: {} }), ['plugins.KeyManger: unknown plugin type; did you mean KeyManager?'])
  t.strictSame(problemsOf({ Sorcerer: {} }), ['plugins.Sorcerer: unknown plugin type; known here: KeyManager, WorkloadAttestor'])
  t.strictSame(problemsOf({ KeyManager: { memroy: data } }), ['plugins.KeyManager.memroy: unknown plugin; did you mean memory?'])
  t.strictSame(problemsOf({ KeyManager: { aws_kms: data } }), ['plugins.KeyManager.aws_kms: unknown plugin; known here: disk, memory'])
  t.strictSame(problemsOf({ KeyManager: [{ disk: data }, { disk: data }] }), ['plugins.KeyManager.disk: the same plugin twice'])
  t.strictSame(problemsOf({ KeyManager: [{ disk: data, memory: data }] }), ['plugins.KeyManager[0]: must name one plugin'])
  t.strictSame(problemsOf({ KeyManager: { disk: { plugin_cmd: '/bin/x', ...data } } }),
    ['plugins.KeyManager.disk.plugin_cmd: external plugins are not offered'])
  t.strictSame(problemsOf({ KeyManager: { disk: { plugin_dta: {}, ...data } } }),
    ['plugins.KeyManager.disk.plugin_dta: unknown key; did you mean plugin_data?'])
  t.strictSame(problemsOf({ KeyManager: { disk: { plugin_data: { path: '/x', limt: 1 } } } }),
    ['plugins.KeyManager.disk.plugin_data.limt: unknown key; did you mean limit?'])
  t.strictSame(problemsOf({ KeyManager: { disk: { plugin_data: { path: 'secret-value', limit: 'secret-value' } } } }),
    ['plugins.KeyManager.disk.plugin_data.limit: must be of type number'], 'and never show a value')
  t.strictSame(problemsOf({ KeyManager: { disk: { plugin_data: 'text' } } }),
    ['plugins.KeyManager.disk.plugin_data: must be of type object'])
  t.strictSame(problemsOf({ KeyManager: { disk: null }, WorkloadAttestor: { unix: {}, nuix: {} } }), [
    'plugins.KeyManager.disk.plugin_data.path: is required',
    'plugins.WorkloadAttestor.unix.plugin_data.path: is required',
    'plugins.WorkloadAttestor.nuix: unknown plugin; did you mean unix?'
  ], 'all problems at once')
  for (const section of ['text', 1, []]) t.strictSame(problemsOf(section), ['plugins: must be a map'])
  t.strictSame(problemsOf({ KeyManager: 'disk' }), ['plugins.KeyManager: must be a map'])
  t.strictSame(problemsOf(JSON.parse('{"__proto__":{},"constructor":{}}')), [
    'plugins.__proto__: unknown plugin type; known here: KeyManager, WorkloadAttestor',
    'plugins.constructor: unknown plugin type; known here: KeyManager, WorkloadAttestor'
  ])
})

void t.test('a start that fails closes what was started', async t => {
  const host = { events: [] as string[] }
  const configured = configurePlugins(catalog, { KeyManager: { disk: data }, WorkloadAttestor: { unix: data, failing: data, k8s: data } })
  await t.rejects(startPlugins(configured, host, signal), { code: 'file_unusable', message: 'WorkloadAttestor "failing": no such file' })
  t.strictSame(host.events, ['start disk', 'start unix', 'close unix', 'close disk'])
  const withBug = configurePlugins(catalog, { WorkloadAttestor: { buggy: data } })
  await t.rejects(startPlugins(withBug, host, signal), TypeError, 'a bug stays a bug')
  await t.rejects(startPlugins(configured, host, AbortSignal.abort(new Error('enough'))), { message: 'enough' })
})
