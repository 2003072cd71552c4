// Run by key-manager.test.ts, which kills it: makes keys in turn and says so after each one is said to be durable.
import { writeSync } from 'node:fs'
import { openDiskKeyManager } from '../../src/keys/disk/disk-key-manager.ts'

const manager = await openDiskKeyManager(process.argv[2] as string)
for (let round = 0; ; round++) {
  const { id, publicKey } = await manager.generateKey(round % 2 === 0 ? 'x509-CA-A' : 'x509-CA-B', 'ec-p256')
  writeSync(1, `${id} ${Buffer.from(publicKey).toString('base64')}\n`)
}
