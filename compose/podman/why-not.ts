import { mkdtemp, mkdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findPostgres } from '../local/postgres-pair.ts'
import { findEnvoy } from '../../src/cli/demo/find-envoy.ts'
import { copyPrograms, whereIs } from './copy-programs.ts'
import { openEnclosure } from './enclosure.ts'
import { Podman } from './podman.ts'

/** Why podman cannot run compose.yaml here, found by running a container, or `false`; fits tap's `skip`. */
export async function podmanMissing (): Promise<string | false> {
  if (process.getuid?.() !== 0) return 'podman is used as root here: a network between containers takes it'
  await using scope = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'podman-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  try {
    await findEnvoy(process.env['PATH'])
    await findPostgres(process.env['PATH'])
    for (const program of ['podman', 'unshare', 'nsenter', 'ip', 'ldd', 'tar']) await whereIs(program)
    const podman = new Podman({ folder, enter: await openEnclosure(folder, scope) })
    const root = join(folder, 'root')
    for (const name of ['dev', 'etc', 'proc', 'run', 'sys', 'tmp']) await mkdir(join(root, name), { recursive: true })
    await copyPrograms(root, new Map([[await whereIs('sh'), '/bin/sh']]))
    await podman.importImage('localhost/probe', root, [])
    await podman.call('network', 'create', '--subnet', '172.30.1.0/24', 'probe')
    await podman.call('run', '--rm', '--network', 'probe', '--ip', '172.30.1.2', 'localhost/probe', '/bin/sh', '-c', 'exit 0')
    return false
  } catch (error) {
    return `${(error as Error).message.split('\n').slice(0, 3).join('; ')} (Debian: apt install podman runc containernetworking-plugins)`
  }
}
