import { loadCLibrary } from '../../runtime/c-library.ts'

/** Numbers of the system calls: C libraries have no function for them. */
const callNumbers: Readonly<Record<string, { readonly addKey: number, readonly keyctl: number }>> = {
  x64: { addKey: 248, keyctl: 250 }, arm64: { addKey: 217, keyctl: 219 }, riscv64: { addKey: 217, keyctl: 219 }
}
/** keyctl(2): special keyrings and operations. */
const [processKeyring, userKeyring] = [-2, -4]
const [opUnlink, opLink, opSearch, opRead] = [9, 8, 10, 11]
/** ENOKEY, EKEYEXPIRED, EKEYREVOKED: there is no such key, or none any more. */
const absent = new Set([126, 127, 128])

/** A system call that the kernel, or what confines this process, refused. */
export class KernelKeysRefused extends Error {
  /** As in errno(3). */
  readonly errno: number

  constructor (call: string, errno: number) {
    super(`${call}: error ${errno}${reasonOf(errno)}`)
    this.errno = errno
  }
}

/**
 * Keys of type `user` in the kernel's keyring of this process's user (keyrings(7)): in the kernel's memory, shared by all processes of the
 * user in this user namespace, gone when the machine restarts.
 */
export class KernelKeys {
  readonly #addKey: (type: string, description: string, payload: Uint8Array) => number
  readonly #keyctl: (operation: number, first: number, second: number) => number
  readonly #search: (description: string) => number
  readonly #read: (key: number, buffer: Uint8Array) => number
  readonly #errno: () => number

  /** Throws `KernelKeysRefused` when keyrings are not to be had: a kernel without them, or a container whose profile forbids them. */
  constructor () {
    const numbers = callNumbers[process.arch]
    if (numbers === undefined) throw new KernelKeysRefused(`keyctl on ${process.arch}`, 38)
    const c = loadCLibrary()
    type Add = (number: number, type: string, description: string, payload: Uint8Array, length: number, keyring: number) => number
    type Control = (number: number, operation: number, first: number, second: number, third: number, fourth: number) => number
    type Search = (number: number, operation: number, keyring: number, type: string, description: string, destination: number) => number
    type Read = (number: number, operation: number, key: number, buffer: Uint8Array, length: number) => number
    const add = c.func('long syscall(long, const char *, const char *, const uint8_t *, size_t, int)') as Add
    const control = c.func('long syscall(long, int, int, int, int, int)') as Control
    const search = c.func('long syscall(long, int, int, const char *, const char *, int)') as Search
    const read = c.func('long syscall(long, int, int, _Out_ uint8_t *, size_t)') as Read
    this.#addKey = (type, description, payload) => add(numbers.addKey, type, description, payload, payload.length, userKeyring)
    this.#keyctl = (operation, first, second) => control(numbers.keyctl, operation, first, second, 0, 0)
    this.#search = description => search(numbers.keyctl, opSearch, userKeyring, 'user', description, 0)
    this.#read = (key, buffer) => read(numbers.keyctl, opRead, key, buffer, buffer.length)
    this.#errno = () => c.errno()
    // Only who possesses a key may read it, and a service manager's session need not lead to its user's keyring.
    this.#check('keyctl', this.#keyctl(opLink, userKeyring, processKeyring))
  }

  /** `undefined` when there is none. @param maxBytes what is longer is cut */
  read (description: string, maxBytes: number): Uint8Array | undefined {
    const key = this.#find(description)
    if (key === undefined) return undefined
    const buffer = new Uint8Array(maxBytes)
    return buffer.subarray(0, Math.min(maxBytes, this.#check('keyctl', this.#read(key, buffer))))
  }

  /** Takes the place of one of the same description. */
  write (description: string, payload: Uint8Array): void { this.#check('add_key', this.#addKey('user', description, payload)) }

  remove (description: string): void {
    const key = this.#find(description)
    if (key !== undefined) this.#check('keyctl', this.#keyctl(opUnlink, key, userKeyring))
  }

  #find (description: string): number | undefined {
    const key = this.#search(description)
    if (key < 0 && absent.has(this.#errno())) return undefined
    return this.#check('keyctl', key)
  }

  #check (call: string, result: number): number {
    if (result < 0) throw new KernelKeysRefused(call, this.#errno())
    return result
  }
}

function reasonOf (errno: number): string {
  switch (errno) {
    case 1: case 13: return ', not permitted: a container\'s seccomp profile forbids keyrings unless it is told otherwise'
    case 38: return ', this kernel has none'
    case 122: return ', this user has too many keys: see /proc/key-users'
    default: return ''
  }
}
