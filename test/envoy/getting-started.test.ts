import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import t from 'tap'

const root = join(import.meta.dirname, '../..')
const envoy = '.assay-tools/envoy-1.40.0/envoy/_bin/envoy'
const missing = [
  ...existsSync(join(root, envoy)) ? [] : ['the Envoy that set-up brings'],
  ...['bash', 'curl', 'python3'].filter(program => spawnSync(program, ['--version'], { stdio: 'ignore' }).status !== 0)
]

await t.test('docs/getting-started.md does what it says', {
  skip: missing.length > 0 ? `not here: ${missing.join(', ')}` : false, timeout: 120_000
}, async t => {
  const guide = await readFile(join(root, 'docs/getting-started.md'), 'utf8')
  const blocks = [...guide.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(match => match[1] ?? '')
  t.ok(blocks.length >= 6)
  // The ports may be taken here: only they are changed. The last line lets the test see that the folder went away.
  const script = await onFreePorts(`set -eu\n${blocks.join('\necho "== block done"\n')}\necho "left: $(ls -d $TRY 2>/dev/null || true)"\n`)
  const { code, output } = await runBash(script)
  t.equal(code, 0, output)
  t.match(output, /spiffe:\/\/example\.org\/spire\/agent\/join_token\//, 'the agent joined')
  t.match(output, /SPIFFE ID\s*: spiffe:\/\/example\.org\/me/, 'entry and SVID')
  t.match(output, /^eyJ|\s+eyJ/m, 'a JWT-SVID')
  t.match(output, /Directory listing/, 'plain HTTP through mTLS')
  t.match(output, /ssl\.curves\.X25519MLKEM768: [1-9]/, 'key exchange')
  t.match(output, /ssl\.versions\.TLSv1\.3: [1-9]/, 'TLS version')
  t.match(output, /^left: $/m, 'nothing is left')
})

/** A bash of its own process group, so that a failure on the way leaves none of its background jobs. */
async function runBash (script: string): Promise<{ code: number | null, output: string }> {
  const bash = spawn('bash', ['-c', script], { cwd: root, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [bash.stdout, bash.stderr]) stream.setEncoding('utf8').on('data', text => { output += text })
  const [code] = await once(bash, 'exit') as [number | null]
  try {
    process.kill(-(bash.pid as number), 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
  return { code, output }
}

async function onFreePorts (script: string): Promise<string> {
  let changed = script
  for (const port of ['8080', '8081', '15000', '15001', '15443']) {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const free = (server.address() as AddressInfo).port
    server.close()
    // In the configuration too, which is copied by sed.
    changed = changed.replaceAll(new RegExp(`\\b${port}\\b`, 'g'), `${free}`)
      .replace('#" envoy-configs/', `#; s#port_value: ${port}\\b#port_value: ${free}#" envoy-configs/`)
  }
  return changed
}
