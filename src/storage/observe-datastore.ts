import type { Clock } from '../runtime/clock.ts'
import { timed, type Took } from '../runtime/took.ts'
import type { Datastore, Stores } from './datastore.ts'

/** A store's method, such as `entries.createMany`. */
export type StoreMethod = { [Store in keyof Stores]: `${Store}.${keyof Stores[Store] & string}` }[keyof Stores]

/** @returns who is told of each call of the method when it has ended; `undefined`: nobody */
export type Observer = (method: StoreMethod) => ((took: Took) => void) | undefined

/** The same datastore, whose calls are told of, those of its fenced stores too. */
export function observeDatastore (store: Datastore, observer: Observer, clock: Clock): Datastore {
  const { leases } = store
  const observed = (stores: Stores) => observeStores(stores, observer, clock)
  return {
    ...store,
    ...observed(store),
    leases: {
      acquire: (...call) => leases.acquire(...call),
      release: (...call) => leases.release(...call),
      get: name => leases.get(name),
      fenced: (name, lease) => observed(leases.fenced(name, lease))
    }
  }
}

function observeStores (stores: Stores, observer: Observer, clock: Clock): Stores {
  const observed = Object.entries(stores).map(([name, store]) =>
    [name, typeof store === 'object' ? observeStore(name, store, observer, clock) : store])
  return Object.fromEntries(observed) as Stores
}

/** Methods that nobody is told of, generators and events among them, are the store's own. */
function observeStore<Store extends object> (name: string, store: Store, observer: Observer, clock: Clock): Store {
  const methods = new Map<PropertyKey, unknown>()
  return new Proxy(store, {
    get (_proxied, key) {
      const value: unknown = Reflect.get(store, key, store)
      if (typeof value !== 'function') return value
      const known = methods.get(key)
      if (known !== undefined) return known
      const tell = observer(`${name}.${String(key)}` as StoreMethod)
      const bound = value.bind(store) as (...call: unknown[]) => Promise<unknown>
      const method = tell === undefined ? bound : (...call: unknown[]) => timed(clock, tell, () => bound(...call))
      methods.set(key, method)
      return method
    }
  })
}
