import { chmod, copyFile, cp, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { copyPrograms, whereIs } from './copy-programs.ts'

const project = join(import.meta.dirname, '../..')

/** What the scripts of compose/ and bin/assay call. */
const tools = [
  'cat', 'chmod', 'chown', 'cp', 'dirname', 'env', 'grep', 'id', 'ls', 'mkdir', 'od', 'readlink', 'rm', 'sed', 'setpriv', 'sh', 'sleep',
  'touch', 'tr'
]
const postgresPrograms = ['initdb', 'pg_basebackup', 'pg_ctl', 'pg_isready', 'postgres', 'psql']
const postgresModules = ['dict_snowball.so', 'libpqwalreceiver.so', 'plpgsql.so']
const folders = ['bin', 'dev', 'etc', 'proc', 'root', 'run', 'secrets', 'shared', 'sys', 'tmp', 'usr/local/bin', 'var/lib/assay']

export interface HostImageOptions {
  /** Empty; becomes the root of the image. */
  readonly root: string
  /** The host's program. */
  readonly envoy: string
  /** Folder of the host's PostgreSQL programs, `…/lib/postgresql/VERSION/bin`. */
  readonly postgres: string
}

/** On this `PATH` are all programs of the image. */
export function imagePath (postgres: string): string { return `/opt/assay/bin:/usr/local/bin:${postgres}:/bin` }

/**
 * A root folder of this machine's own programs, their libraries and this clone with the packages it runs on: what the Containerfile makes
 * of images and packages of others, and in it what PostgreSQL's image would bring.
 */
export async function makeHostRoot ({ root, envoy, postgres }: HostImageOptions): Promise<void> {
  for (const folder of folders) await mkdir(join(root, folder), { recursive: true })
  await chmod(join(root, 'tmp'), 0o1777)
  await writeFile(join(root, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\npostgres:x:999:999::/var/lib/postgresql:/bin/sh\n')
  await writeFile(join(root, 'etc/group'), 'root:x:0:\npostgres:x:999:\n')
  await copyPrograms(root, await programs(envoy, postgres))
  const share = join(postgres.replace('/lib/', '/share/'), '..')
  await cp(share, join(root, share), { recursive: true, dereference: true })
  await copyProject(join(root, 'opt/assay'))
  for (const name of ['gosu', 'postgres-entrypoint']) {
    await copyFile(join(import.meta.dirname, `${name}.sh`), join(root, 'usr/local/bin', name))
    await chmod(join(root, 'usr/local/bin', name), 0o755)
  }
}

async function programs (envoy: string, postgres: string): Promise<Map<string, string>> {
  const paths = new Map([[process.execPath, '/usr/local/bin/node'], [envoy, '/usr/local/bin/envoy']])
  for (const tool of tools) paths.set(await whereIs(tool), `/bin/${tool}`)
  for (const name of postgresPrograms) paths.set(join(postgres, name), join(postgres, name))
  const modules = join(dirname(postgres), 'lib')
  for (const name of await readdir(modules)) {
    // What initdb wants: languages and conversions.
    if (postgresModules.includes(name) || name.includes('_and_')) paths.set(join(modules, name), join(modules, name))
  }
  return paths
}

async function copyProject (target: string): Promise<void> {
  for (const name of ['bin', 'src', 'envoy-configs', 'compose', 'package.json']) {
    await cp(join(project, name), join(target, name), { recursive: true })
  }
  const { packages } = JSON.parse(await readFile(join(project, 'package-lock.json'), 'utf8')) as
    { packages: Readonly<Record<string, { readonly dev?: boolean, readonly devOptional?: boolean }>> }
  for (const [path, { dev, devOptional }] of Object.entries(packages)) {
    const wanted = path !== '' && dev !== true && devOptional !== true
    // Optional ones that are missing are of other platforms.
    if (wanted && await stat(join(project, path)).then(() => true, () => false)) {
      await cp(join(project, path), join(target, path), { recursive: true })
    }
  }
}
