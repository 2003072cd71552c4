import { join } from 'node:path'
import t from 'tap'
import { openNamespace } from '../../src/redirect/namespace.ts'
import { Namespace, needsNamespaces } from '../fakes/namespace.ts'

void t.test('rules are made in a network namespace of others, and nowhere else', { skip: needsNamespaces }, async t => {
  await using namespace = await Namespace.open()
  using opened = openNamespace(namespace.path)
  using same = openNamespace(namespace.path)
  t.equal(opened.inode, same.inode)
  t.throws(() => openNamespace('/proc/self/ns/net'), { code: 'argument_invalid', message: /the namespace of this host/ })
  t.throws(() => openNamespace('/proc/self/ns/mnt'), { code: 'argument_invalid', message: /no network namespace/ })
  const folder = t.testdir({ file: '' })
  t.throws(() => openNamespace(join(folder, 'file')), { code: 'argument_invalid', message: /no network namespace/ })
  t.throws(() => openNamespace(join(folder, 'absent')), { code: 'file_unusable' })
})
