import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { checkNamespacePath, openNamespace } from '../../src/redirect/namespace.ts'
import { Namespace, needsNamespaces } from '../fakes/namespace.ts'

void t.test('only a path that nobody else can change may be opened again later', { skip: needsNamespaces }, async t => {
  await using namespace = await Namespace.open()
  // Below a folder that is root's all the way, which the tests' own may not be.
  const folder = await mkdtemp('/run/assay-test-')
  const path = join(folder, 'blue')
  writeFileSync(path, '', { mode: 0o444 })
  await namespace.run('mount', '--bind', namespace.path, path)
  t.teardown(async () => {
    execFileSync('umount', [path])
    await rm(folder, { recursive: true })
  })
  await checkNamespacePath(path)
  using opened = openNamespace(path)
  using same = openNamespace(namespace.path)
  t.equal(opened.inode, same.inode)

  const link = join(folder, 'link')
  symlinkSync(path, link)
  await checkNamespacePath(link)

  await t.rejects(checkNamespacePath(namespace.path), { code: 'namespace_unsafe', message: /a process can change/ }, 'below /proc')
  symlinkSync(namespace.path, join(folder, 'process'))
  await t.rejects(checkNamespacePath(join(folder, 'process')), { code: 'file_unusable' }, 'nor by way of a link')
  await t.rejects(checkNamespacePath(join(folder, 'absent')), { code: 'file_unusable' })
  mkdirSync(join(folder, 'open'))
  chmodSync(join(folder, 'open'), 0o1777)
  symlinkSync(path, join(folder, 'open', 'link'))
  await t.rejects(checkNamespacePath(join(folder, 'open', 'link')), { code: 'namespace_unsafe', message: /open can be changed by others/ },
    'a folder in which anybody may put another')
  mkdirSync(join(folder, 'foreign'))
  symlinkSync(path, join(folder, 'foreign', 'link'))
  chownSync(join(folder, 'foreign'), 4711, 4711)
  await t.rejects(checkNamespacePath(join(folder, 'foreign', 'link')), { code: 'namespace_unsafe', message: /user 4711 owns/ })
  const file = join(folder, 'file')
  writeFileSync(file, '')
  await t.rejects(checkNamespacePath(file), { code: 'argument_invalid', message: /no network namespace/ })
})
