import { join } from 'node:path'
import t from 'tap'
import { z } from 'zod'
import { pluginSchemas, startPlugins, type Catalog, type ConfiguredPlugins } from '../../src/plugins/catalog.ts'
import type { ExternalProgram } from '../../src/plugins/external-program.ts'
import type { Plugin } from '../../src/plugins/plugin.ts'
import { readConfig } from '../../src/runtime/config-file.ts'
import { parseHcl } from '../../src/runtime/hcl-text.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'

interface Started extends AsyncDisposable { readonly config: unknown }
interface Host { readonly events: string[] }
type Apis = { readonly KeyManager: Started, readonly WorkloadAttestor: Started }

function plugin (name: string, start?: () => Promise<void>): Plugin<Started, { path: string, limit: number }, Host> {
  return {
    name,
    config: z.strictObject({ path: z.string().default('/default'), limit: z.int().default(0) }),
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
  KeyManager: { use: 'one', plugins: [plugin('disk'), plugin('memory')] },
  WorkloadAttestor: { use: 'several', plugins: [plugin('unix'), failing, buggy, plugin('k8s')] }
}
const schema = z.strictObject({ plugins: z.strictObject(pluginSchemas(catalog)) })
const data = { plugin_data: { path: '/x' } }
const signal = new AbortController().signal

function read (section: unknown) {
  return readConfig(schema, { file: { name: 'f', text: JSON.stringify({ plugins: section }) } })
}

function configure (section: unknown): ConfiguredPlugins<Apis> {
  const { value } = read(section)
  if (value === undefined) throw new Error('the configuration is refused')
  return value.plugins
}

function problemsOf (section: unknown): string[] {
  const reading = read(section)
  return reading.value === undefined ? reading.problems.map(({ key, rule }) => `${key}: ${rule}`) : []
}

void t.test('starts type by type in the catalog\'s order, each type in that of the configuration, and closes in reverse', async t => {
  const host = { events: [] as string[] }
  const configured = configure({
    WorkloadAttestor: { k8s: { plugin_data: { path: '/k', limit: 5 } }, unix: data },
    KeyManager: { memory: data }
  })
  t.strictSame(host.events, [], 'reading a configuration starts nothing')
  {
    await using started = await startPlugins(catalog, configured, host, signal)
    t.strictSame(started.all('WorkloadAttestor').map(({ config }) => config), [{ path: '/k', limit: 5 }, { path: '/x', limit: 0 }])
    t.strictSame(started.only('KeyManager').config, { path: '/x', limit: 0 }, 'defaults are filled in')
    t.throws(() => started.only('WorkloadAttestor'), TypeError, 'several are never silently one')
  }
  t.strictSame(host.events, ['start memory', 'start k8s', 'start unix', 'close unix', 'close k8s', 'close memory'])
})

void t.test('a list of maps, as SPIRE\'s JSON has it', async t => {
  t.strictSame(configure({ WorkloadAttestor: [{ k8s: data }, { unix: data }] }), configure({ WorkloadAttestor: { k8s: data, unix: data } }))
  t.strictSame(problemsOf({ KeyManager: [{ disk: data }, { disk: data }] }), ['plugins.KeyManager.1: names disk again'])
  for (const item of [{ disk: data, memory: data }, {}, 1, null, ['disk']]) {
    t.strictSame(problemsOf({ KeyManager: [item] }), ['plugins.KeyManager.0: must be a map of one name'], JSON.stringify(item))
  }
})

void t.test('where nothing is named, the first of the type is used', async t => {
  const config = { path: '/default', limit: 0 }
  const defaults = { KeyManager: [{ name: 'disk', config }], WorkloadAttestor: [{ name: 'unix', config }] }
  for (const section of [{}, { KeyManager: null }, { KeyManager: {} }, { KeyManager: [] }, { KeyManager: { disk: null } }]) {
    t.strictSame(configure(section), defaults, JSON.stringify(section))
  }
  t.strictSame(configure({ KeyManager: { memory: {} } }).KeyManager, [{ name: 'memory', config }])
})

void t.test('refusals name the key', async t => {
  const refused: Record<string, unknown> = {
    'plugins.KeyManger: unknown key; did you mean KeyManager?': { KeyManger: {} },
    'plugins.Sorcerer: unknown key; known here: KeyManager, WorkloadAttestor': { Sorcerer: {} },
    'plugins.KeyManager.memroy: unknown key; did you mean memory?': { KeyManager: { memroy: data } },
    'plugins.KeyManager.aws_kms: unknown key; known here: disk, memory': { KeyManager: { aws_kms: data } },
    'plugins.KeyManager: must name one of disk, memory': { KeyManager: { disk: data, memory: data } },
    'plugins.KeyManager.disk.plugin_cmd: external plugins of this type are not offered':
      { KeyManager: { disk: { plugin_cmd: '/bin/x', ...data } } },
    'plugins.KeyManager.disk.plugin_dta: unknown key; did you mean plugin_data?': { KeyManager: { disk: { plugin_dta: {}, ...data } } },
    'plugins.KeyManager.disk.plugin_data.limt: unknown key; did you mean limit?': { KeyManager: { disk: { plugin_data: { limt: 1 } } } },
    'plugins.KeyManager.disk.plugin_data: must be a map': { KeyManager: { disk: { plugin_data: 'text' } } },
    'plugins.KeyManager.disk: must be a map': { KeyManager: { disk: 5 } },
    'plugins.KeyManager: must be a map': { KeyManager: 'disk' }
  }
  for (const [problem, section] of Object.entries(refused)) t.strictSame(problemsOf(section), [problem])
  t.strictSame(problemsOf({ KeyManager: { disk: { plugin_data: { path: 'secret-value', limit: 'secret-value' } } } }),
    ['plugins.KeyManager.disk.plugin_data.limit: must be a number'], 'and never show a value')
  t.strictSame(problemsOf({
    KeyManager: { disk: { plugin_data: { path: 1 } } },
    WorkloadAttestor: { unix: { plugin_data: { limit: 1.5 } }, nuix: {} }
  }), [
    'plugins.KeyManager.disk.plugin_data.path: must be a string',
    'plugins.WorkloadAttestor.unix.plugin_data.limit: must be a whole number',
    'plugins.WorkloadAttestor.nuix: unknown key; did you mean unix?'
  ], 'all problems at once')
  t.strictSame(problemsOf({ KeyManager: JSON.parse('{"__proto__":{},"constructor":{}}') as unknown }), [
    'plugins.KeyManager.__proto__: unknown key; known here: disk, memory',
    'plugins.KeyManager.constructor: unknown key; known here: disk, memory'
  ], 'names that every object has')
})

void t.test('a block that is not enabled is as if it were not there', async t => {
  const { KeyManager: left } = configure({ KeyManager: { disk: { enabled: false, plugin_data: { no: 1 } }, memory: data } })
  t.strictSame(left.map(({ name }) => name), ['memory'])
  const { WorkloadAttestor: enabled } = configure({ WorkloadAttestor: { unix: { enabled: true, ...data } } })
  t.strictSame(enabled, [{ name: 'unix', config: { path: '/x', limit: 0 } }])
  t.strictSame(problemsOf({ KeyManager: { disk: { enabled: 'no' } } }), ['plugins.KeyManager.disk.enabled: must be a boolean'])
})

void t.test('programs that are plugins', async t => {
  const started: unknown[] = []
  const external = async (name: string, program: ExternalProgram): Promise<Started> => {
    started.push(name, program)
    return { config: program, [Symbol.asyncDispose]: async () => { started.push(`close ${name}`) } }
  }
  const withPrograms: Catalog<Apis, Host> = {
    KeyManager: catalog.KeyManager, WorkloadAttestor: { ...catalog.WorkloadAttestor, refused: { old: 'is gone' }, external }
  }
  const schema = z.strictObject({ plugins: z.strictObject(pluginSchemas(withPrograms)) })
  const readAs = (text: string, parse?: typeof parseHcl) =>
    readConfig(schema, { file: { name: 'f', text, parse, looselyTyped: parse !== undefined } })
  const hcl = `plugins {
    WorkloadAttestor "acme" {
      plugin_cmd = "/opt/acme"
      plugin_args = ["-v"]
      plugin_checksum = "${'aB'.repeat(32)}"
      plugin_data {
        socket = "/run/acme"
        retries = 3
        limits { cpu = "1" }
      }
    }
    WorkloadAttestor "unix" { plugin_data {} }
    WorkloadAttestor "off" { plugin_cmd = "/opt/off" enabled = false }
  }`
  const { value } = readAs(hcl, parseHcl)
  if (value === undefined) throw new Error('the configuration is refused')
  const program = {
    command: '/opt/acme', args: ['-v'], checksum: 'ab'.repeat(32),
    data: { hcl: 'socket = "/run/acme"\nretries = 3\nlimits = {\n  cpu = "1"\n}\n' }
  }
  t.strictSame(value.plugins.WorkloadAttestor.map(({ name }) => name), ['acme', 'unix'], 'SPIRE\'s HCL, in its order')
  {
    await using plugins = await startPlugins(withPrograms, value.plugins, { events: [] }, signal)
    t.strictSame(plugins.all('WorkloadAttestor').map(({ config }) => config), [program, { path: '/default', limit: 0 }])
  }
  t.strictSame(started, ['acme', program, 'close acme'])
  const json = (block: unknown, name = 'acme') => JSON.stringify({ plugins: { WorkloadAttestor: [{ [name]: block }] } })
  t.strictSame(readAs(json({ plugin_cmd: 'bin/x', plugin_data_file: 'd.hcl' })).value?.plugins.WorkloadAttestor[0]?.program, {
    command: join(process.cwd(), 'bin/x'), args: [], checksum: undefined, data: { file: 'd.hcl' }
  })
  const yaml = 'plugins:\n  WorkloadAttestor:\n    k8s: {}\n    acme: { plugin_cmd: /x }\n    unix: {}\n    other: { plugin_cmd: /y }\n'
  const list = JSON.stringify({
    plugins: { WorkloadAttestor: [{ k8s: {} }, { acme: { plugin_cmd: '/x' } }, { unix: {} }, { other: { plugin_cmd: '/y' } }] }
  })
  for (const [what, text] of Object.entries({ yaml, list })) {
    t.strictSame(readAs(text).value?.plugins.WorkloadAttestor.map(({ name }) => name), ['k8s', 'acme', 'unix', 'other'],
      `${what}: programs and our own as they are written`)
  }
  t.match(readAs(yaml.replace('acme: {', 'acme: { plugin_arg: 1,')).problems, [{ where: 'f:4', key: /acme\.plugin_arg$/ }])
  const refused: Record<string, string> = {
    'plugin_cmd: must not be empty': json({ plugin_cmd: '' }),
    'plugin_checksum: must be the file\'s SHA-256: 64 hexadecimal digits': json({ plugin_cmd: '/x', plugin_checksum: 'abc' }),
    'plugin_data_file: is set beside plugin_data; keep one of them':
      json({ plugin_cmd: '/x', plugin_data: { a: 1 }, plugin_data_file: 'y' }),
    'plugin_data: a.b is no text, number, true, false, list or map': json({ plugin_cmd: '/x', plugin_data: { a: { b: null } } }),
    'plugin_arg: unknown key; did you mean plugin_args?': json({ plugin_cmd: '/x', plugin_arg: [] })
  }
  for (const [problem, text] of Object.entries(refused)) {
    t.strictSame(readAs(text).problems?.map(({ key, rule }) => `${key}: ${rule}`), [`plugins.WorkloadAttestor.acme.${problem}`])
  }
  const rules = (text: string) => readAs(text).problems?.map(({ key, rule }) => `${key}: ${rule}`)
  t.strictSame(rules(json({}, 'acme')), [
    'plugins.WorkloadAttestor.acme: unknown key; known here: unix, failing, buggy, k8s; a program needs plugin_cmd'
  ])
  t.strictSame(rules(json({}, 'nuix')), ['plugins.WorkloadAttestor.nuix: unknown key; did you mean unix?'])
  t.strictSame(rules(json({}, 'old')), ['plugins.WorkloadAttestor.old: is gone'])
  t.strictSame(rules(json({ plugin_cmd: '/x' }, 'old')), undefined, 'a program of a name that is refused')
  t.strictSame(rules(json({ plugin_cmd: '/x' }, 'unix')), [
    'plugins.WorkloadAttestor.unix.plugin_cmd: this name is a plugin of our own: give the program another name'
  ])
  t.match(rules(json({ plugin_cmd: '/x' }, 'a:b')), [/must be a name/], 'a name that can be no type of a selector')
  t.match(rules('{"plugins":{"WorkloadAttestor":{"__proto__":{"plugin_cmd":"/x"}}}}'), [/must be a name/])
})

void t.test('a start that fails closes what was started', async t => {
  const host = { events: [] as string[] }
  const configured = configure({ WorkloadAttestor: { unix: data, failing: data, k8s: data } })
  await t.rejects(startPlugins(catalog, configured, host, signal), {
    code: 'file_unusable', message: 'WorkloadAttestor "failing": no such file'
  })
  t.strictSame(host.events, ['start disk', 'start unix', 'close unix', 'close disk'])
  const withBug = configure({ WorkloadAttestor: { buggy: data } })
  await t.rejects(startPlugins(catalog, withBug, host, signal), { name: 'TypeError', message: 'a bug' }, 'a bug stays a bug')
  await t.rejects(startPlugins(catalog, configured, host, AbortSignal.abort(new Error('enough'))), { message: 'enough' })
})
