#include "TestUtilities.h"
#include "openmmkstep/internal/TemporaryFolder.h"
#include <cstdlib>
#include <filesystem>
#include <fstream>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;
namespace fs = std::filesystem;

/**
 * Where temporary folders are made, who can read them, and that nothing is left.
 */

/** In the folder of TMPDIR, for this user only, and gone with its contents, wherever the process has gone meanwhile. */
void testFolder(const fs::path& parent, const string& variable) {
    setenv("TMPDIR", variable.c_str(), 1);
    fs::path start = fs::current_path();
    string path;
    {
        TemporaryFolder folder("Owner", "a test"), other("Owner", "a test");
        path = folder.getPath();
        ASSERT(path != other.getPath());
        ASSERT(fs::path(path).is_absolute());
        ASSERT(fs::equivalent(fs::path(path).parent_path(), parent));
        ASSERT(fs::status(path).permissions() == fs::perms::owner_all);
        fs::create_directory(path+"/inner");
        ofstream(path+"/inner/file") << "text";
        fs::current_path(path);
    }
    fs::current_path(start);
    ASSERT(!fs::exists(path));
}

void testNoFolder() {
    setenv("TMPDIR", "/nonexistent/folder", 1);
    ASSERT_THROWS(TemporaryFolder("Owner", "a test"), "Owner: no temporary folder for a test can be made in /nonexistent/folder.  Set TMPDIR");
}

int main() {
    try {
        setenv("TMPDIR", "/tmp", 1);
        TemporaryFolder own("Test", "this test");
        testFolder("/tmp", "");
        testFolder("/tmp", "/tmp");
        testFolder(own.getPath(), own.getPath());
        fs::current_path(own.getPath());
        fs::create_directory("relative");
        testFolder(own.getPath()+"/relative", "relative");
        fs::current_path("/");
        testNoFolder();
        ASSERT(fs::is_empty(own.getPath()+"/relative"));
    }
    catch (const exception& e) {
        cout << "exception: " << e.what() << endl;
        return 1;
    }
    cout << "Done" << endl;
    return 0;
}
