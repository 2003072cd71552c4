import { execFile } from 'node:child_process'
import { cpSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { copyPrograms, whereIs } from '../../compose/podman/copy-programs.ts'
import { makeImageRoot } from '../../scripts/image-root.ts'
import { findEnvoy } from '../fakes/envoy.ts'

const run = promisify(execFile)
const project = join(import.meta.dirname, '../..')
/** What a runtime does before the program, within the root: not of the image. */
export const confiner = '/usr/lib/test-runtime/setpriv'

/** The root folders that images have, by the last part of their names. */
export type Images = Readonly<Record<'assay' | 'assay-node' | 'envoy' | 'node', string>>

/** As deploy/Containerfile builds them, and Envoy's own. @param folder empty, for all of it */
export async function makeImages (folder: string): Promise<Images> {
  // From a copy: others may be running dist/.
  const copy = join(folder, 'src')
  for (const name of ['src', 'scripts', 'package.json', 'package-lock.json', 'LICENSE', 'tsconfig.json', 'tsconfig.build.json']) {
    cpSync(join(project, name), join(copy, name), { recursive: true })
  }
  await run('ln', ['-s', join(project, 'node_modules'), join(copy, 'node_modules')])
  // The test runner's NODE_OPTIONS would reach into the compiler.
  await run('env', ['-u', 'NODE_OPTIONS', process.execPath, 'scripts/build.mjs'], { cwd: copy })
  const [node, envoy] = [join(folder, 'assay-node'), join(folder, 'envoy')]
  await makeImageRoot({ root: node, project: copy, node: process.execPath, programs: ['nft', 'nsenter'] })
  for (const name of ['etc/envoy', 'proc', 'dev', 'tmp', 'run', 'sys']) mkdirSync(join(envoy, name), { recursive: true })
  await copyPrograms(envoy, new Map([[findEnvoy() ?? '', '/usr/local/bin/envoy']]))
  for (const root of [node, envoy]) await copyPrograms(root, new Map([[await whereIs('setpriv'), confiner]]))
  // `assay` is the same without nft and nsenter; for pods that need nothing but Node it will do.
  return { assay: node, 'assay-node': node, node, envoy }
}
