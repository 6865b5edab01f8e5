// A little of the browser's database: things with an id, kept over reloads, crashes and tabs. Where the browser forbids it,
// nothing is kept, and nothing fails.

const databaseName = "chatr";
const storeName = "outbox";
const openWithinMs = 3000; // some browsers neither open a database nor say why

export class Shelf<T extends { id: string }> {
  readonly #factory: IDBFactory | undefined;
  #opened: Promise<IDBDatabase | undefined> | undefined;

  constructor(factory: IDBFactory | undefined) {
    this.#factory = factory;
  }

  async all(): Promise<T[]> {
    return (await this.#with("readonly", (store) => store.getAll() as IDBRequest<T[]>)) ?? [];
  }

  async put(thing: T): Promise<void> {
    await this.#with("readwrite", (store) => store.put(thing));
  }

  async remove(id: string): Promise<void> {
    await this.#with("readwrite", (store) => store.delete(id));
  }

  async #with<R>(mode: IDBTransactionMode, ask: (store: IDBObjectStore) => IDBRequest<R>): Promise<R | undefined> {
    try {
      const database = await (this.#opened ??= this.#open());
      return database && (await answered(ask(database.transaction(storeName, mode).objectStore(storeName))));
    } catch {
      return undefined; // full, or closed by the browser
    }
  }

  async #open(): Promise<IDBDatabase | undefined> {
    if (!this.#factory) return undefined;
    const opening = this.#factory.open(databaseName, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(storeName, { keyPath: "id" });
    const late = new Promise<undefined>((resolve) => setTimeout(resolve, openWithinMs));
    const database = await Promise.race([answered(opening), late]);
    if (database) database.onversionchange = () => database.close(); // a newer page wants to change it
    return database;
  }
}

function answered<R>(request: IDBRequest<R>): Promise<R> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("the browser's database said no"));
  });
}
