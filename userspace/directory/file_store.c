// SPDX-License-Identifier: Apache-2.0
/* File datastore, see file_store.h. The lock is on the data file itself, so it
 * ends with the process, however that ends. An entry is one write at the end of
 * what is sound; what a crash leaves of it is a torn tail, which the next opening
 * recognises and the next append cuts off. */
#include "directory/file_store.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

struct file_store {
	char *filename;
	int fd;
	off_t end;     /* where the next entry goes */
	bool has_tail; /* something torn lies behind it */
	bool broken;   /* what lies behind it is not known */
};

/* Makes the directories that `filename` lies in. */
static int make_directories(const char *filename)
{
	_free_ char *path = strdup(filename);

	if (!path)
		return -ENOMEM;
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		if (mkdir(path, 0700) && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return 0;
}

/* A new file must outlive a crash too, so its directory entry is synced. */
static int sync_directory(const char *filename)
{
	_free_ char *path = strdup(filename);
	char *slash = path ? strrchr(path, '/') : NULL;
	_close_ int fd = -1;

	if (!path)
		return -ENOMEM;
	if (slash)
		slash[slash == path ? 1 : 0] = 0;
	fd = open(slash ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) ? -errno : 0;
}

static int open_file(const char *filename)
{
	int fd, error;

	fd = open(filename, O_RDWR | O_CLOEXEC);
	if (fd >= 0 || errno != ENOENT)
		return fd < 0 ? -errno : fd;
	error = make_directories(filename);
	if (error)
		return error;
	fd = open(filename, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	error = sync_directory(filename);
	if (error) {
		close(fd);
		return error;
	}
	return fd;
}

static int read_entries(struct file_store *store, file_store_each each, void *context)
{
	struct stat status;
	struct store_scan scan = { 0 };
	void *bytes = NULL;
	int error = 0;

	if (fstat(store->fd, &status))
		return -errno;
	if (!S_ISREG(status.st_mode))
		return -EINVAL;
	if (status.st_size) {
		bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, store->fd, 0);
		if (bytes == MAP_FAILED)
			return -errno;
		error = store_scan(bytes, (size_t)status.st_size, &scan);
		munmap(bytes, (size_t)status.st_size);
	}
	if (error == -EBADMSG)
		log_error("%s: damaged at byte %zu; the file was left as it is", store->filename, scan.error_offset);
	if (error)
		return error;
	store->end = (off_t)scan.sound_size;
	store->has_tail = status.st_size > store->end;
	if (store->has_tail)
		log_warning("%s: %lld bytes of an unfinished entry at its end are ignored", store->filename,
			    (long long)(status.st_size - store->end));
	for (size_t i = 0; !error && i < scan.count; i++)
		error = each(&scan.entries[i], context);
	store_scan_clear(&scan);
	return error;
}

int file_store_open(const char *filename, file_store_each each, void *context, struct file_store **result)
{
	struct file_store *store = calloc(1, sizeof(*store));
	int error = -ENOMEM;

	if (!store)
		return -ENOMEM;
	store->fd = -1;
	store->filename = strdup(filename);
	if (!store->filename)
		goto fail;
	store->fd = open_file(filename);
	if (store->fd < 0) {
		error = store->fd;
	} else if (flock(store->fd, LOCK_EX | LOCK_NB)) {
		error = errno == EWOULDBLOCK ? -EBUSY : -errno;
	} else {
		error = read_entries(store, each, context);
	}
	if (!error) {
		*result = store;
		return 0;
	}
fail:
	if (error == -EBUSY)
		log_error("%s: another process is using this data file", filename);
	else if (error != -EBADMSG) /* who found the damage has told where */
		log_error("%s: cannot open the data file: %s", filename, strerror(-error));
	file_store_close(store);
	return error;
}

/* Permissions do not tell it all: root has them in file systems that make nothing. An
 * unnamed file is gone once it is closed. */
static int check_folder(const char *path)
{
	struct statfs system;
	_close_ int fd = -1;

	if (access(path, W_OK | X_OK))
		return -errno;
	fd = open(path, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	if (fd >= 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EISDIR)
		return -errno;
	/* Some make files, but no unnamed ones. */
	if (statfs(path, &system))
		return -errno;
	return system.f_type == PROC_SUPER_MAGIC || system.f_type == SYSFS_MAGIC ? -EOPNOTSUPP : 0;
}

int file_store_check(const char *filename)
{
	_free_ char *path = strdup(filename);
	struct stat status;
	bool is_folder = false;

	if (!path)
		return -ENOMEM;
	if (!*path)
		return -ENOENT;
	if (path[strlen(path) - 1] == '/')
		return -EISDIR;
	if (!stat(path, &status))
		return !S_ISREG(status.st_mode) ? -EINVAL : access(path, R_OK | W_OK) ? -errno : 0;
	/* What is missing is made, in the first folder above that is there. */
	while (errno == ENOENT) {
		char *slash = strrchr(path, '/');

		if (is_folder && !lstat(path, &status))
			return -ENOENT; /* a link to nowhere, which is no folder and cannot become one */
		is_folder = true;
		if (!slash)
			strcpy(path, ".");
		else
			slash[slash == path ? 1 : 0] = 0;
		if (!stat(path, &status))
			return S_ISDIR(status.st_mode) ? check_folder(path) : -ENOTDIR;
	}
	return -errno;
}

void file_store_close(struct file_store *store)
{
	if (!store)
		return;
	if (store->fd >= 0)
		close(store->fd);
	free(store->filename);
	free(store);
}

static int write_all(int fd, const uint8_t *bytes, size_t size, off_t offset)
{
	while (size) {
		ssize_t written = pwrite(fd, bytes, size, offset);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return written ? -errno : -EIO;
		bytes += written;
		size -= (size_t)written;
		offset += written;
	}
	return fsync(fd) ? -errno : 0;
}

static int cut_tail(struct file_store *store)
{
	if (ftruncate(store->fd, store->end) || fsync(store->fd))
		return -errno;
	store->has_tail = false;
	return 0;
}

int file_store_append(struct file_store *store, uint8_t type, const void *data, size_t size)
{
	uint8_t ids[2 * STORE_ID_SIZE];
	_free_ uint8_t *bytes = NULL;
	size_t bytes_size;
	int error = 0;

	if (store->broken)
		error = -EIO;
	else if (getrandom(ids, sizeof(ids), 0) != (ssize_t)sizeof(ids))
		error = -EIO;
	else
		error = store_encode(type, ids, ids + STORE_ID_SIZE, data, size, &bytes, &bytes_size);
	if (!error && store->has_tail)
		error = cut_tail(store);
	if (!error) {
		error = write_all(store->fd, bytes, bytes_size, store->end);
		if (!error)
			store->end += (off_t)bytes_size;
		else if (cut_tail(store))
			store->broken = true; /* nobody knows what the disk holds now: only a new start reads it */
	}
	if (error)
		log_error("%s: cannot append: %s", store->filename, strerror(-error));
	return error;
}
