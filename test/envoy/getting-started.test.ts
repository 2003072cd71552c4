import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { freePort } from '../fakes/free-port.ts'
import { readBlocks, runBash, scriptOf } from '../fakes/run-guide.ts'

const root = join(import.meta.dirname, '../..')
const envoy = '.assay-tools/envoy-1.40.0/envoy/_bin/envoy'
const missing = [
  ...existsSync(join(root, envoy)) ? [] : ['the Envoy that set-up brings'],
  ...['bash', 'curl', 'python3'].filter(program => spawnSync(program, ['--version'], { stdio: 'ignore' }).status !== 0)
]

await t.test('docs/getting-started.md does what it says', {
  skip: missing.length > 0 ? `not here: ${missing.join(', ')}` : false, timeout: 120_000
}, async t => {
  const blocks = await readBlocks('docs/getting-started.md')
  t.ok(blocks.length >= 6)
  const { code, output } = await runBash(await onFreePorts(scriptOf(blocks)))
  t.equal(code, 0, output)
  t.match(output, /spiffe:\/\/example\.org\/spire\/agent\/join_token\//, 'the agent joined')
  t.match(output, /SPIFFE ID\s*: spiffe:\/\/example\.org\/me/, 'entry and SVID')
  t.match(output, /^eyJ|\s+eyJ/m, 'a JWT-SVID')
  t.match(output, /Directory listing/, 'plain HTTP through mTLS')
  t.match(output, /ssl\.curves\.X25519MLKEM768: [1-9]/, 'key exchange')
  t.match(output, /ssl\.versions\.TLSv1\.3: [1-9]/, 'TLS version')
  t.match(output, /^left: $/m, 'nothing is left')
})

async function onFreePorts (script: string): Promise<string> {
  let changed = script
  for (const port of ['8080', '8081', '15000', '15001', '15443']) {
    const free = String(await freePort())
    // In the configuration too, which is copied by sed.
    changed = changed.replaceAll(new RegExp(`\\b${port}\\b`, 'g'), free)
      .replace('#" envoy-configs/', `#; s#port_value: ${port}\\b#port_value: ${free}#" envoy-configs/`)
  }
  return changed
}
