import { closeSync, constants, fstatSync, mkdirSync, openSync, readlinkSync, renameSync, rmSync, statfsSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { SpiffeError } from '../../spiffe/errors.ts'

const nsfsMagic = 0x6e736673

/**
 * A network namespace held open, and a path by which the proxy finds exactly this one: names are given anew, and a proxy that drains an
 * old listener takes its socket for a new one of the same path. The number of a namespace is not given again while anything is in it.
 */
export interface NetnsPin extends Disposable {
  /** Different for each namespace that exists at one time. */
  readonly uid: string
  /** A link in a folder that belongs to the agent alone. */
  readonly path: string
}

/**
 * @param folder the agent's own; made if it is not there
 * @param path of a namespace, e.g. `/var/run/netns/a` or `/proc/1234/ns/net`
 * @returns `undefined` when it is no namespace, or not yet
 * @throws {SpiffeError} `netns_unusable`
 */
export function pinNetns (folder: string, path: string, name: string): NetnsPin | undefined {
  let fd: number
  try {
    fd = openSync(path, constants.O_RDONLY)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new SpiffeError('netns_unusable', `${path} cannot be opened`, { cause: error })
  }
  try {
    if (statfsSync(`/proc/self/fd/${fd}`).type !== nsfsMagic) {
      closeSync(fd)
      return undefined
    }
    const uid = `${name}-${fstatSync(fd).ino}`
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const link = join(folder, uid)
    // In one step: a proxy that looks meanwhile finds the one or the other.
    rmSync(`${link}.new`, { force: true })
    const target = `/proc/${process.pid}/fd/${fd}`
    symlinkSync(target, `${link}.new`)
    renameSync(`${link}.new`, link)
    return {
      uid,
      path: link,
      [Symbol.dispose] () {
        // Whoever took this process's place has made a link of its own there.
        if (leadsTo(link, target)) rmSync(link, { force: true })
        closeSync(fd)
      }
    }
  } catch (error) {
    closeSync(fd)
    throw new SpiffeError('netns_unusable', `${path} cannot be held`, { cause: error })
  }
}

function leadsTo (link: string, target: string): boolean {
  try {
    return readlinkSync(link) === target
  } catch {
    return false
  }
}
