import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { runAssay } from '../fakes/run-assay.ts'
import { buildGoPlugin, withoutGo } from '../interop/go-programs.ts'

t.setTimeout(300_000)

void t.test('server validate asks programs what is wrong with their configuration, as SPIRE\'s does', { skip: withoutGo }, async t => {
  const binary = await buildGoPlugin()
  const folder = t.testdir()
  const record = join(folder, 'record')
  const block = (word: string, plugin_data: object) => ({ plugin_cmd: binary, plugin_args: [word], plugin_data })
  const validate = async (plugins: object, program: 'assay' | 'spire-server' = 'assay') => {
    const file = join(folder, 'server.json')
    await writeFile(file, JSON.stringify({ server: { trust_domain: 'example.org', data_dir: folder }, plugins }))
    return await runAssay(['server', 'validate', '-config', file].slice(program === 'assay' ? 0 : 1), { program })
  }
  const own = await mkdtemp(join(tmpdir(), 'v-'))
  const { TMPDIR } = process.env
  process.env['TMPDIR'] = own
  t.teardown(async () => {
    if (TMPDIR === undefined) delete process.env['TMPDIR']
    else process.env['TMPDIR'] = TMPDIR
    await rm(own, { recursive: true })
  })
  t.match(await validate({
    NodeAttestor: { tpm: block('ServerNodeAttestor', { label: 'tpm' }) },
    // It would write there if it were used.
    Notifier: { mail: block('Notifier', { record }), old: block('Notifier', { refuse: 'older' }) }
  }), { code: 0, stdout: /is valid/ })
  await t.rejects(readFile(record), { code: 'ENOENT' })
  const wrong = {
    NodeAttestor: { tpm: block('ServerNodeAttestor', { refuse: 'the label' }), gone: { plugin_cmd: '/nowhere/plugin' } },
    KeyManager: { keys: block('KeyManager', { refuse: 'wordless' }) },
    Notifier: { mail: block('Notifier', { count: 'many', label: 'secret-value' }), shop: block('BundlePublisher', {}) }
  }
  const { code, stdout, stderr } = await validate(wrong)
  t.equal(code, 2)
  t.equal(stdout, '')
  for (const line of [
    /plugins\.KeyManager\.keys: it refuses its configuration, and does not say why\n/, /plugins\.NodeAttestor\.tpm: refuse: the label\n/,
    /plugins\.NodeAttestor\.tpm: in example\.org\n/, /plugins\.NodeAttestor\.gone: \/nowhere\/plugin cannot be run: ENOENT\n/,
    /plugins\.Notifier\.mail: it refuses its configuration: INVALID_ARGUMENT: unable to decode/,
    /plugins\.Notifier\.shop: .*is it a plugin of the type Notifier/, /code: config_invalid/
  ]) t.match(stderr, line, 'all problems at once')
  t.notMatch(stderr, 'secret-value', 'plugin_data is not shown')
  t.match(await validate(wrong, 'spire-server'), { code: 1, stderr: /plugins\.NodeAttestor\.tpm: refuse: the label/ })
  t.strictSame(await readdir(own), [], 'nothing is left of them')
})
